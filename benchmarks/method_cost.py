"""What a step of each method costs beside the passes that its algorithm needs anyway.

    python benchmarks/method_cost.py --threads 1 [--methods simclr,byol] [--json cost.json]

A step is before_forward, forward, backward, before_update and after_update; the optimiser, whose
cost is the recipe's choice, and the views are excluded on both sides. The passes are those of
`method_passes.py`, by the method's own encoder. Each figure is the median of runs that alternate
between the two. "Epoch" is what the first step of an epoch takes longer, for k-means and the like.
On a GPU forward and backward of the methods that the training loop runs as one CUDA graph are one
here, and so are their passes.

"Kernels" are the operations of a step and of its passes, forward and backward, that a GPU would
have to start: ATen's without views and without those that only allocate; one for many tensors
(`_foreach_*`) counts once. They are the same in every run and on every machine, and where the
encoder is small and the GPU fast the time follows them: starting takes longer than the work. It is
an estimate: some operations start several kernels, CPU and GPU take apart some in different ways,
and what a method works out on the processor by design (I-JEPA's masks) counts all the same.

No method may take more than 1.3 times its passes; the exit status is 1 if one does.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from method_passes import NEEDED, Pass
from torch.utils._python_dispatch import TorchDispatchMode

from raysl.capture import can_capture
from raysl.encoder import EncoderConfig, build_encoder
from raysl.memory import keep_freed_memory
from raysl.methods import METHODS, Batch, Method
from raysl.methods.parts.bank import FeatureBank
from raysl.precision import fast_products
from raysl.state import ALONE
from raysl.views.config import local_size

BAR = 1.3
AT_ONCE = {"cpu": 1, "cuda": 10}  # of each turn: the training loop does not wait for a GPU either
NUM_CLASSES = 10
CHANNELS = 3
# Neither views by their schema nor work: they allocate, or give other sizes to the same memory.
NO_KERNEL = {
    torch.ops.aten.empty,
    torch.ops.aten.empty_like,
    torch.ops.aten.empty_strided,
    torch.ops.aten.new_empty,
    torch.ops.aten.new_empty_strided,
    torch.ops.aten._unsafe_view,
}


@dataclass(frozen=True)
class Cost:
    """Seconds of a step, of its passes and of what is added once an epoch; kernels of the two."""

    method: str
    encoder: str
    step: float
    passes: float
    epoch: float
    step_kernels: int
    pass_kernels: int

    @property
    def ratio(self) -> float:
        return self.step / self.passes

    @property
    def kernel_ratio(self) -> float:
        return self.step_kernels / self.pass_kernels


class Kernels(TorchDispatchMode):
    """Counts the operations inside of it, backward passes included, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if not func.is_view and func.overloadpacket not in NO_KERNEL:
            self.found[str(func)] += 1
        return func(*args, **(kwargs or {}))


def kernels(work: Callable[[], object]) -> Counter[str]:
    """How often each operation is started in it."""
    with Kernels() as counted:
        work()
    return counted.found


class Bench:
    """One method, its batch and the passes it needs, on one device."""

    def __init__(self, name: str, options: argparse.Namespace):
        self.device = torch.device(options.device)
        self.method = build(name, options).to(self.device).train()
        self.batch = noise(self.method, options, self.device)
        self.passes: list[Pass] = NEEDED[name](self.method, self.batch)
        for module in self.method.modules():
            if isinstance(module, FeatureBank):  # as if the whole pool had been seen
                module.rows.copy_(F.normalize(torch.randn_like(module.rows), dim=1))
        self.graphs: dict[Callable[[], None], torch.cuda.CUDAGraph] = {}

    def step(self, epoch: int = 1) -> None:
        self.method.before_forward(epoch)
        self.run(self.forward_and_backward)
        self.method.before_update(0.5)
        self.method.zero_grad(set_to_none=True)
        self.method.after_update(0.5)

    def bare(self) -> None:
        self.run(self.all_passes)
        self.method.zero_grad(set_to_none=True)

    def seconds(self, work: Callable[..., None], *arguments: int, times: int = 1) -> float:
        """Of one in so many."""
        started = self.now()
        for _ in range(times):
            work(*arguments)
        return (self.now() - started) / times

    def forward_and_backward(self) -> None:
        self.method(self.batch)["loss"].backward()

    def all_passes(self) -> None:
        for needed in self.passes:
            needed.run()

    def run(self, work: Callable[[], None]) -> None:
        if work in self.graphs:
            self.graphs[work].replay()
        else:
            work()

    def capture(self) -> None:
        """From here on, both sides as graphs, where training would have one."""
        if not can_capture(self.method, self.device, ALONE):
            return
        for work in (self.forward_and_backward, self.all_passes):
            graph = torch.cuda.CUDAGraph()
            graph.register_generator_state(self.batch.generator)
            stream = torch.cuda.Stream(self.device)
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                work()
            torch.cuda.current_stream().wait_stream(stream)
            self.method.zero_grad(set_to_none=True)
            with torch.cuda.graph(graph, stream=stream):
                work()
            self.method.zero_grad(set_to_none=True)
            self.graphs[work] = graph

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def build(name: str, options: argparse.Namespace) -> Method:
    """The method with its defaults, on the encoder asked for or else on its own."""
    kind = METHODS[name]
    sizes = {
        "num_examples": options.pool,
        "num_classes": NUM_CLASSES if trains_on_labels(kind) else 0,
        "batch_size": options.batch,
        "num_steps": 1000,
    }
    configs = [kind.encoder_config]
    if options.encoder is not None:
        configs.insert(0, EncoderConfig(name=options.encoder))
    for config in configs:
        torch.manual_seed(0)
        encoder = build_encoder(config, channels=CHANNELS, image_size=options.size)
        try:
            return kind(kind.Config(), encoder, **sizes)
        except ValueError:
            if config is configs[-1]:
                raise
    raise AssertionError


def trains_on_labels(kind: type[Method]) -> bool:
    return kind.trains_on not in ("pool", "nothing")


def noise(method: Method, options: argparse.Namespace, device: torch.device) -> Batch:
    """A batch of noise with the method's own numbers and sizes of views."""
    generator = torch.Generator(device).manual_seed(0)
    config, size = method.views, options.size
    sizes = [size] * config.num_views + [local_size(config, size)] * config.num_local_views
    views = [
        torch.randn(options.batch, CHANNELS, s, s, device=device, generator=generator)
        for s in sizes
    ]
    index = torch.arange(options.batch, device=device)
    labels = index % NUM_CLASSES if trains_on_labels(type(method)) else None
    return Batch(views, index, labels, 0.5, generator)


def measure(name: str, options: argparse.Namespace) -> Cost:
    bench = Bench(name, options)
    for epoch in range(2):  # warm up
        bench.step(epoch)
        bench.bare()
    step_kernels, pass_kernels = (kernels(f).total() for f in (bench.step, bench.bare))
    bench.capture()
    steps, bare = [], []
    times = AT_ONCE[bench.device.type]
    for _ in range(options.repeats):
        steps.append(bench.seconds(bench.step, times=times))
        bare.append(bench.seconds(bench.bare, times=times))
    step, passes = statistics.median(steps), statistics.median(bare)
    firsts = [bench.seconds(bench.step, epoch) - step for epoch in range(2, 5)]
    encoder = bench.method.encoder.name
    epoch = max(0.0, statistics.median(firsts))
    return Cost(name, encoder, step, passes, epoch, step_kernels, pass_kernels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", help="with commas between; all that train without it")
    parser.add_argument("--encoder", help="for the methods that work with it, such as resnet18")
    parser.add_argument("--size", type=int, default=32, help="pixels")
    parser.add_argument("--batch", type=int, default=256, help="images")
    parser.add_argument("--pool", type=int, default=10_000, help="images, for banks and queues")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7, help="5 or more")
    parser.add_argument("--json", type=Path, help="where to append a line with all figures")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # as the command line and Ray's workers do

    chosen = [name for name, method in METHODS.items() if method.trains_on != "nothing"]
    if options.methods:
        chosen = options.methods.split(",")
    unknown = [name for name in chosen if name not in NEEDED]
    if unknown:
        sys.exit(f"method_passes.py does not say which passes {', '.join(unknown)} need.")
    device = options.device
    if torch.device(device).type == "cuda":
        device = torch.cuda.get_device_name(device)
    print(
        f"batches of {options.batch}, {options.size} px colour, {device}, {options.threads} "
        f"thread(s), torch {torch.__version__}, load {os.getloadavg()[0]:.1f} before the start"
    )
    print(
        f"{'method':21s} {'encoder':10s} {'step':>9s} {'passes':>9s} {'ratio':>6s} {'epoch':>9s} "
        f"{'kernels':>11s} {'ratio':>6s}"
    )
    costs = []
    for name in chosen:
        with fast_products(options.device):  # as in a training
            cost = measure(name, options)
        costs.append(cost)
        over = "  above the bar" if cost.ratio > BAR else ""
        print(
            f"{name:21s} {cost.encoder:10s} {cost.step * 1e3:6.1f} ms {cost.passes * 1e3:6.1f} ms "
            f"{cost.ratio:6.2f} {cost.epoch * 1e3:6.0f} ms "
            f"{cost.step_kernels:5d}/{cost.pass_kernels:5d} {cost.kernel_ratio:6.2f}{over}",
            flush=True,
        )
    if options.json is not None:
        arguments = {key: value for key, value in vars(options).items() if key != "json"}
        figures = [
            {**vars(cost), "ratio": cost.ratio, "kernel_ratio": cost.kernel_ratio} for cost in costs
        ]
        line = {"benchmark": "method_cost", "device_name": device, **arguments, "costs": figures}
        with options.json.open("a") as file:
            file.write(json.dumps(line) + "\n")
    sys.exit(int(any(cost.ratio > BAR for cost in costs)))


if __name__ == "__main__":
    main()
