"""Stacks in one line: what was asked for, and by whom."""

from __future__ import annotations

import pytest

from kvatlas.device import Frame
from kvatlas.device.stack_words import is_telling, stack_name

UNWIND = Frame("torch::unwind::unwind()", "??", 0)
MALLOC = Frame("c10::cuda::CUDACachingAllocator::Native::malloc(void**)", "x.cpp", 0)
ADD = Frame("at::_ops::add_Tensor::call(at::Tensor const&)", "??", 0)
MUL = Frame("torch::autograd::generated::MulBackward0::apply(std::vector<>&&)", "??", 0)
WRAPPER = Frame("_call_impl", "/lib/python3.12/site-packages/torch/nn/modules/module.py", 1790)
LINEAR = Frame("forward", "/lib/python3.12/site-packages/torch/nn/modules/linear.py", 125)
MODEL = Frame("attend", "/home/me/server/model.py", 80)
LOOP = Frame("_PyEval_EvalFrameDefault", "??", 0)


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ((), "stack not known"),
        ((UNWIND, MALLOC, ADD, LOOP, MODEL), "op add_Tensor ← attend (server/model.py:80)"),
        ((UNWIND, MALLOC, ADD, MUL, LOOP), "op add_Tensor ← MulBackward0"),
        ((LINEAR, WRAPPER, MODEL), "forward (modules/linear.py:125) ← attend (server/model.py:80)"),
        ((MODEL, LINEAR), "attend (server/model.py:80)"),
        ((UNWIND, MALLOC, LOOP), "_PyEval_EvalFrameDefault"),
        ((UNWIND,), "torch::unwind::unwind"),
    ],
)
def test_a_stack_in_one_line(calls: tuple[Frame, ...], expected: str) -> None:
    assert stack_name(calls) == expected


def test_calls_that_say_nothing() -> None:
    told = [is_telling(call) for call in (UNWIND, MALLOC, ADD, MUL, WRAPPER, LINEAR, MODEL, LOOP)]
    assert told == [False, False, True, True, False, True, True, False]
