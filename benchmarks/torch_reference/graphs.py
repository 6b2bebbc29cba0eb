"""Updates as a CUDA graph: launched at once, without Python between its kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.torch_reference.learner import Learner
from benchmarks.torch_reference.maths import Batch

WARM_UP = 3
"""Rounds before the capture: what compiles or allocates lazily has done so."""


def captured(learner: Learner, batch: Batch, updates: int) -> tuple[Callable[[], None] | None, str]:
    """A function that replays so many updates on this batch; or None, and why there is none.

    Parameters, optimisers and targets go on from replay to replay. What an update binds anew (δ and
    its exploration) begins each replay as it was at the capture: the time is that of training.
    """
    if learner.device.type != "cuda":
        return None, f"no CUDA graphs on {learner.device.type}"
    for value in list(vars(learner).values()):
        if isinstance(value, torch.optim.Optimizer):
            for group in value.param_groups:
                group["capturable"] = True

    def work() -> None:
        for _ in range(updates):
            learner.update(batch)

    try:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                work()
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        graph, kept = torch.cuda.CUDAGraph(), dict(vars(learner))
        with torch.cuda.graph(graph):
            work()
        graph.replay()
        torch.cuda.synchronize()
    except Exception as error:  # whatever PyTorch cannot capture; eager updates then count
        return None, str(error).strip().partition("\n")[0]

    def replay(kept: Any = kept) -> None:  # tensors that the graph reads stay alive with it
        graph.replay()

    return replay, ""
