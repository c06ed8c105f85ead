"""The weight files that hs-data knows: what for, whose, which bytes, and where they come from."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """A weight file that a stage may ask for."""

    name: str
    purpose: str
    filename: str
    """Its name in the models folder; another one will do where hash and size are known."""
    sha256: str | None
    """None: nobody published it; what comes first is recorded in `models.lock.json`."""
    sha256_begins: str = ""
    """First digits of a hash that is not known in full."""
    size_bytes: int | None
    licence: str
    commercial: bool
    """Whether the licence allows commercial use; False where none is stated."""
    source: str
    url: str | None
    """`https://…`, or `hf://OWNER/REPOSITORY@REVISION/FILE` for a file of the Hugging Face Hub; None: by hand only."""
    framework: Literal["torch", "opencv"]
    """Library that computes it: `models.precision` changes the results of torch's only."""
    overridden: bool = False
    """Whether `models.toml` put it in the place of ours."""


_WHISPER = "https://openaipublic.azureedge.net/main/whisper/models"

# docs/models.md says where each hash, size and licence was found.
MODEL_FILES = (
    ModelFile(
        name="yunet",
        purpose="face boxes and five landmarks (faces.backend=yunet)",
        filename="face_detection_yunet_2023mar.onnx",
        sha256="8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
        size_bytes=232_589,
        licence="MIT",
        commercial=True,
        source="Hugging Face opencv/face_detection_yunet",
        url="hf://opencv/face_detection_yunet@3cc26e7f1014a5ee5d74a42acee58bafc9d0a310/face_detection_yunet_2023mar.onnx",
        framework="opencv",
    ),
    ModelFile(
        name="retinaface",
        purpose="face boxes and five landmarks (faces.backend=retinaface)",
        filename="retinaface_resnet50_2020-07-20-f168fae3c.zip",
        sha256=None,
        sha256_begins="f168fae3c",
        size_bytes=None,
        licence="MIT",
        commercial=True,
        source="GitHub ternaus/retinaface, release 0.01",
        url="https://github.com/ternaus/retinaface/releases/download/0.01/retinaface_resnet50_2020-07-20-f168fae3c.zip",
        framework="torch",
    ),
    ModelFile(
        name="syncnet",
        purpose="lead of the sound and its confidence (sync.backend=syncnet)",
        filename="syncnet_v2.model",
        sha256="961e8696f888fce4f3f3a6c3d5b3267cf5b343100b238e79b2659bff2c605442",
        size_bytes=54_573_114,
        licence="none stated by its authors; research use",
        commercial=False,
        source="VGG, University of Oxford (Chung and Zisserman 2016)",
        url="https://www.robots.ox.ac.uk/~vgg/software/lipsync/data/syncnet_v2.model",
        framework="torch",
    ),
    ModelFile(
        name="whisper-tiny",
        purpose="audio features, 384 wide (audio.backend=whisper)",
        filename="whisper-tiny.pt",
        sha256="65147644a518d12f04e32d6f3b26facc3f8dd46e5390956a9424a650c0ce22b9",
        size_bytes=75_572_083,
        licence="MIT",
        commercial=True,
        source="OpenAI Whisper, multilingual",
        url=f"{_WHISPER}/65147644a518d12f04e32d6f3b26facc3f8dd46e5390956a9424a650c0ce22b9/tiny.pt",
        framework="torch",
    ),
    ModelFile(
        name="whisper-base",
        purpose="audio features, 512 wide (audio.backend=whisper)",
        filename="whisper-base.pt",
        sha256="ed3a0b6b1c0edf879ad9b11b1af5a0e6ab5db9205f891f668f8b0e6c6326e34e",
        size_bytes=145_262_807,
        licence="MIT",
        commercial=True,
        source="OpenAI Whisper, multilingual",
        url=f"{_WHISPER}/ed3a0b6b1c0edf879ad9b11b1af5a0e6ab5db9205f891f668f8b0e6c6326e34e/base.pt",
        framework="torch",
    ),
    ModelFile(
        name="whisper-small",
        purpose="audio features, 768 wide (audio.backend=whisper)",
        filename="whisper-small.pt",
        sha256="9ecf779972d90ba49c06d968637d720dd632c55bbf19d441fb42bf17a411e794",
        size_bytes=483_617_219,
        licence="MIT",
        commercial=True,
        source="OpenAI Whisper, multilingual",
        url=f"{_WHISPER}/9ecf779972d90ba49c06d968637d720dd632c55bbf19d441fb42bf17a411e794/small.pt",
        framework="torch",
    ),
    ModelFile(
        name="sd-vae-ft-mse",
        purpose="latents of Stable Diffusion 1.x and 2.x (latents.backend=sd_vae)",
        filename="sd-vae-ft-mse.safetensors",
        sha256="a1d993488569e928462932c8c38a0760b874d166399b14414135bd9c42df5815",
        size_bytes=334_643_276,
        licence="MIT",
        commercial=True,
        source="Hugging Face stabilityai/sd-vae-ft-mse",
        url="hf://stabilityai/sd-vae-ft-mse@31f26fdeee1355a5c34592e401dd41e45d25a493/diffusion_pytorch_model.safetensors",
        framework="torch",
    ),
    ModelFile(
        name="taesd",
        purpose="the same latents from a tiny network (latents.backend=taesd)",
        filename="taesd.safetensors",
        sha256="db169d69145ec4ff064e49d99c95fa05d3eb04ee453de35824a6d0f325513549",
        size_bytes=9_793_292,
        licence="MIT",
        commercial=True,
        source="Hugging Face madebyollin/taesd",
        url="hf://madebyollin/taesd@614f76814bbe30edbe2e627ace1c2234c81a2c0e/diffusion_pytorch_model.safetensors",
        framework="torch",
    ),
    ModelFile(
        name="clip-vit-base-patch16",
        purpose="rating of faces as photos (quality.iqa=clip_iqa)",
        filename="clip-vit-base-patch16/model.safetensors",
        sha256=None,
        size_bytes=None,
        licence="MIT",
        commercial=True,
        source="OpenAI CLIP ViT-B/16; the whole folder, as Hugging Face lays it out",
        url=None,
        framework="torch",
    ),
)
