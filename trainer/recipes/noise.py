"""Noise of sample k from a generator seeded by sample k, so that it does not depend on who computes it."""

import torch


def sample_noise(shape: torch.Size, seeds: torch.Tensor, *, offset: float, device: torch.device) -> torch.Tensor:
    """Draw unit Gaussian noise plus a constant of a sample and channel, the same in all of its frames and cells.

    Equal on any number of ranks and at any batch size; not equal between a CPU and a GPU, whose generators differ.

    Args:
        shape: [B, T, C, H, W].
        seeds: [B] int64, one a sample.
        offset: standard deviation of the constant; see "Diffusion with offset noise".
        device: where to draw.

    Returns:
        [B, T, C, H, W] float32.
    """
    generator = torch.Generator(device)
    noise = torch.empty(shape, device=device)
    constant = torch.empty((shape[0], 1, shape[2], 1, 1), device=device)
    for index, seed in enumerate(seeds.tolist()):
        generator.manual_seed(seed)
        noise[index].normal_(generator=generator)
        constant[index].normal_(generator=generator)
    return noise.add_(constant, alpha=offset)
