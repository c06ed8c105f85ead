"""The noise schedule against diffusers', and DDIM against a network that knows the answer."""

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler, rescale_zero_terminal_snr

from hs_data.trainer.recipes.diffusion import VSchedule, ddim
from hs_data.trainer.recipes.highsync.mask import lower_face

SHAPE = (3, 2, 4, 16, 16)


@pytest.fixture(scope="module")
def theirs() -> DDIMScheduler:
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        rescale_betas_zero_snr=True,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
    )


def test_the_last_step_is_pure_noise():
    schedule = VSchedule()
    assert schedule.signal[-1] == 0
    assert schedule.noise[-1] == 1
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    wanted = (1 - rescale_zero_terminal_snr(betas)).cumprod(0).sqrt()
    torch.testing.assert_close(schedule.signal, wanted, rtol=1e-4, atol=1e-5)


def test_noise_and_target_are_diffusers_own(theirs):
    torch.manual_seed(0)
    latents, noise = torch.randn(SHAPE), torch.randn(SHAPE)
    timestep = torch.tensor([0, 500, 998])
    schedule = VSchedule()
    torch.testing.assert_close(
        schedule.add_noise(latents, noise, timestep), theirs.add_noise(latents, noise, timestep), rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(
        schedule.target(latents, noise, timestep), theirs.get_velocity(latents, noise, timestep), rtol=1e-4, atol=1e-4
    )


def test_weights_are_min_snr():
    schedule = VSchedule()
    weights = schedule.weights(torch.tensor([0, 400, 999]), 5.0)
    ratio = (schedule.signal[400] / schedule.noise[400]) ** 2 + 1
    assert weights[1] == pytest.approx(min(ratio, 5) / ratio)
    assert weights[0] < 0.01
    assert weights[2] == 1


@pytest.mark.parametrize("steps", [1, 3, 20])
def test_a_network_that_knows_gets_the_mouth_back(steps: int):
    torch.manual_seed(0)
    schedule, mask = VSchedule(), lower_face(16)
    clean = torch.randn(SHAPE)

    def predict(noisy: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        signal, scale = schedule.signal[timestep[0]], schedule.noise[timestep[0]]
        noise = (noisy - signal * clean) / scale
        return signal * noise - scale * clean

    made = ddim(schedule, predict, torch.randn(SHAPE), known=clean * (1 - mask), mask=mask, steps=steps)
    torch.testing.assert_close(made * mask, clean * mask, rtol=1e-3, atol=1e-3)
    assert torch.equal(made * (1 - mask), clean * (1 - mask))
