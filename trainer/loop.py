"""The training loop, top to bottom: a batch, its loss, gradients, the optimizer's step, and what follows a step.

Every process runs it, whoever started it.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.nn.parallel import DistributedDataParallel
from torch.utils.flop_counter import FlopCounterMode

from ..manifests.errors import HsDataError
from .checkpoint import Checkpoints, State, Tensors
from .config import TrainConfig
from .data.loader import Loader
from .data.samples import Batch, Samples
from .metrics import Metrics, Watch
from .optimizer import EMA, grad_norm, load_optimizer, lr_scale, make_optimizer, optimizer_tensors
from .recipes.recipe import Recipe, Schedule
from .stopping import StoppedError
from .validation import ValidationResult, compare_sounds, summarise
from .world import World

if TYPE_CHECKING:
    from .sample_videos import SampleVideos

logger = logging.getLogger(__name__)


class Training:
    """A run in one process.

    Args:
        world: this process among the others.
        config: the settings.
        recipe: what is trained.
        network: on the world's device, frozen where the recipe says so; equal in all processes.
        samples: of the training clips.
        validation: of the held-out clips; None without any.
        schedule: of the noise.
        run: the run's folder.
        state: where the run stands.
    """

    def __init__(
        self,
        *,
        world: World,
        config: TrainConfig,
        recipe: Recipe,
        network: torch.nn.Module,
        samples: Samples,
        validation: Samples | None,
        schedule: Schedule,
        run: Path,
        state: State,
    ) -> None:
        self.world, self.config, self.recipe, self.schedule = world, config, recipe, schedule
        self.samples, self.validation, self.run_folder, self.state = samples, validation, run, state
        self.network = network
        self.parameters = {name: value for name, value in network.named_parameters() if value.requires_grad}
        self.optimizer = make_optimizer(self.parameters, config.optim, recipe)
        self._rate = self.optimizer.param_groups[0]["lr"]
        self.average = EMA(self.parameters, config.optim.ema_decay) if config.optim.ema_decay else None
        self._parallel = _parallel(network, world)
        self._called = torch.compile(self._parallel or network) if config.model.compile else self._parallel or network
        self._num_bad = 0

    def run(
        self, checkpoints: Checkpoints, metrics: Metrics | None, asked: Callable[[], bool] = lambda: False
    ) -> ValidationResult | None:
        """Train to the last step; checkpoints and metrics are written by the main process.

        Args:
            checkpoints: where they go.
            metrics: None writes none.
            asked: whether this process was asked to stop.

        Returns:
            What the held-out samples say at the end; None without any.

        Raises:
            StoppedError: a process was asked to stop; the last step is saved.
            HsDataError: gradients were not finite too often in a row, or a checkpoint could not be saved.
        """
        config, watch = self.config.run, Watch(self.world, self.schedule.num_timesteps)
        if config.peak_tflops:
            watch.floor_s = self._count_flops() / (config.peak_tflops * 1e12)
        loader = self._loader()
        batches = loader.batches(self.state.step * self.state.batch_size)
        while self.state.step < config.steps:
            with watch.waiting():
                batch = next(batches).to(self.world.device)
            self._step(batch, watch)
            step = self.state.step
            if metrics is not None:
                metrics.stepped(step)
            if step % config.log_every == 0:
                self._log(metrics, watch)
            checkpoints.check()
            due = step % config.save_every == 0 or step == config.steps
            stop = self.world.any(asked())
            if (due or stop) and self.world.is_main:
                checkpoints.save(self.state, self.tensors())
            if stop:
                checkpoints.finish()
                self.world.wait()  # a launcher ends everybody soon after the first one ends
                raise StoppedError(f"{self.run_folder}: stopped after step {step} and saved")
            if config.validate_every and step % config.validate_every == 0 and step < config.steps:
                self._judge(metrics)
            if config.sample_every and step % config.sample_every == 0:
                self._film()
        return self._judge(metrics)

    def _loader(self) -> Loader:
        data = self.config.data
        return Loader(
            self.samples,
            batch_size=self.state.batch_size,
            rank=self.world.rank,
            num_ranks=self.world.size,
            num_workers=data.num_workers,
            num_ahead=data.num_ahead,
            pin=self.world.device.type == "cuda",
        )

    def _step(self, batch: Batch, watch: Watch) -> None:
        """Do one optimizer step, or skip it where the gradient is not finite."""
        config = self.config.optim
        share = lr_scale(self.state.step, self.config.run.steps, config, self.recipe)
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate * share
        per_sample = self._backward(batch)
        norm = grad_norm(self.parameters.values(), config.max_grad_norm)
        watch.saw(batch["timestep"], per_sample, norm)
        if bool(torch.isfinite(norm)):
            self.optimizer.step()
            self._num_bad = 0
            if self.average is not None:
                self.average.update(self.state.step)
        else:
            self._skip(batch, per_sample)
        self.optimizer.zero_grad(set_to_none=True)
        self.state = replace(self.state, step=self.state.step + 1)

    def _backward(self, batch: Batch) -> torch.Tensor:
        """Add up the gradients of the parts of a batch; return the loss of each sample, [B]."""
        parts = self._parts(batch)
        losses = []
        for number, part in enumerate(parts):
            with self._without_sync(number < len(parts) - 1), self._autocast():
                loss = self.recipe.loss(self._called, part, self.schedule)
                # Parts may differ in size; weighed by their share, they add up to the gradient of the whole batch.
                (loss.mean * (len(part) / len(batch))).backward()
            losses.append(loss.per_sample)
        return torch.cat(losses)

    def _parts(self, batch: Batch) -> list[Batch]:
        return batch.split(-(-len(batch) // self.config.optim.grad_accum_steps))

    @contextmanager
    def _without_sync(self, waits: bool) -> Iterator[None]:
        """Leave gradients in this process while more parts of the batch follow."""
        if waits and self._parallel is not None:
            with self._parallel.no_sync():
                yield
        else:
            yield

    def _autocast(self) -> torch.autocast:
        precision = self.config.run.precision
        return torch.autocast(self.world.device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")

    def _skip(self, batch: Batch, per_sample: torch.Tensor) -> None:
        """Leave the weights as they are, name the clips, and give up after too many in a row."""
        own = [self.samples.clip_id(batch.first + int(index)) for index in (~per_sample.isfinite()).nonzero()]
        bad = self.world.gather(own)
        self._num_bad += 1
        self.state = replace(self.state, num_skipped=self.state.num_skipped + 1)
        names = f"loss of {', '.join(bad)}" if bad else "no single clip; the gradient itself"
        logger.warning("step %d skipped: not finite (%s)", self.state.step + 1, names)
        if self._num_bad >= self.config.run.max_non_finite:
            raise HsDataError(
                f"{self.run_folder}: {self._num_bad} steps in a row had no finite gradient ({names}); "
                "lower optim.learning_rate, or run `hs-data verify` on the dataset"
            )

    def learn(self, batch: Batch) -> torch.Tensor:
        """Do one optimizer step on a batch, whatever samples it holds, and return the loss of each, [B]."""
        watch = Watch(self.world, self.schedule.num_timesteps)
        self._step(batch, watch)
        return watch.losses

    def load(self, tensors: Tensors) -> None:
        """Go on from a checkpoint's tensors."""
        self.network.load_state_dict(tensors.model)
        load_optimizer(self.optimizer, sorted(self.parameters), tensors.optimizer)
        if self.average is not None:
            # A run that had none begins its average at the weights it has now, not at those it was made with.
            begin = tensors.average or {name: value.detach().float() for name, value in self.parameters.items()}
            self.average.tensors = {name: tensor.to(self.world.device).clone() for name, tensor in begin.items()}

    def tensors(self) -> Tensors:
        """Return what a checkpoint holds."""
        return Tensors(
            model=self.network.state_dict(),
            average=dict(self.average.tensors) if self.average else {},
            optimizer=optimizer_tensors(self.optimizer, sorted(self.parameters)),
        )

    def _log(self, metrics: Metrics | None, watch: Watch) -> None:
        if metrics is None:
            watch.clear()
            return
        values = watch.values(self.state.batch_size)
        metrics.write(self.state.step, {**values, "lr": self.optimizer.param_groups[0]["lr"]})

    def _judge(self, metrics: Metrics | None) -> ValidationResult | None:
        """Judge the averaged weights, in the main process alone."""
        self.world.wait()
        found = None
        if self.validation is not None and self.world.is_main:
            with self._shipped(), self._autocast():
                pairs = compare_sounds(
                    self.network,
                    self.recipe,
                    self.validation,
                    self.schedule,
                    num_samples=self.config.data.num_val_samples,
                    batch_size=self.state.batch_size // self.world.size,
                    device=self.world.device,
                )
            found = summarise(pairs)
            if metrics is not None:
                metrics.write(self.state.step, found.values())
        self.world.wait()
        return found

    def _film(self) -> None:
        """Film held-out clips with the averaged weights, in the main process alone."""
        self.world.wait()
        if self.world.is_main:
            with self._shipped(), self._autocast():
                made = self._films.sample(self.network)
            self._films.write(made, self.state.step)
        self.world.wait()

    @cached_property
    def _films(self) -> "SampleVideos":
        from .sample_videos import SampleVideos  # noqa: PLC0415 - decoders and video, for runs that film alone

        run = self.config.run
        number = {"num_clips": run.sample_clips, "num_steps": run.sample_steps}
        return SampleVideos(self.run_folder, self.config.data, self.recipe, **number)

    @contextmanager
    def _shipped(self) -> Iterator[None]:
        """Have the network as it would be shipped: its averaged weights, in evaluation mode."""
        self.network.eval()
        if self.average is not None:
            self.average.swap()
        try:
            yield
        finally:
            if self.average is not None:
                self.average.swap()
            self.network.train()

    def _count_flops(self) -> int:
        """Return the floating-point operations of this process's share of a step, counted and not estimated."""
        batch = self.samples.batch(0, self.state.batch_size // self.world.size).to(self.world.device)
        with FlopCounterMode(display=False) as counter, self._autocast():
            for part in self._parts(batch):
                self.recipe.loss(self.network, part, self.schedule).mean.backward()
        self.optimizer.zero_grad(set_to_none=True)
        return counter.get_total_flops()


def _parallel(network: torch.nn.Module, world: World) -> DistributedDataParallel | None:
    if world.size == 1:
        return None
    return DistributedDataParallel(network, device_ids=[world.device] if world.device.type == "cuda" else None)
