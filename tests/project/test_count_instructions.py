"""The gate on instruction counts fires when a kernel needs more of them, and when a loop spills."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"
sys.path.insert(0, str(TOOLS))

from count_instructions import RECORD, WIDE, Figure, faults, stack_stores  # type: ignore[import-not-found]  # noqa: E402

IN_REGISTERS = """
vmovups 0x40(%rdi,%rax,4),%zmm3
vfmadd213ps 0x180(%rsp),%zmm1,%zmm3
vmovups %zmm3,0x40(%rsi,%rax,4)
mov %rax,0x20(%rsp)
add $0x40,%rax
jne 1a0
"""
SPILLED = """
vmovups 0x40(%rdi,%rax,4),%zmm3
vmovaps %zmm3,0xc0(%rsp)
vmovups %ymm7,(%rsp)
movaps %xmm1,-0x10(%rsp)
vmovaps 0xc0(%rsp),%zmm3
jne 1a0
"""


def test_a_vector_stored_on_the_stack_is_a_spill_and_nothing_else_is() -> None:
    assert stack_stores(IN_REGISTERS.strip().splitlines()) == []
    assert stack_stores(SPILLED.strip().splitlines()) == SPILLED.strip().splitlines()[1:4]


RECORDED = {WIDE: Figure(2.0, 0), "other": Figure(5.0, 3), "many": Figure(5.0, 60)}


@pytest.mark.parametrize(
    ("measured", "words"),
    [
        ({WIDE: Figure(2.05, 0)}, "2.05 instructions an element, recorded 2.0 (+2.5%)"),
        ({WIDE: Figure(2.0, 1)}, "1 vectors on the stack"),
        ({"other": Figure(5.0, 6)}, "6 vectors stored on the stack in the hot loop, recorded 3"),
        ({"many": Figure(5.0, 67)}, "67 vectors stored on the stack in the hot loop, recorded 60"),
        ({"new": Figure(1.0, 0)}, "new is not recorded"),
    ],
)
def test_what_has_become_worse_is_a_fault(measured: dict[str, Figure], words: str) -> None:
    assert any(words in fault for fault in faults("avx512", RECORDED | measured, RECORDED, 0.02))


def test_what_is_as_recorded_or_better_is_none() -> None:
    nearly = {WIDE: Figure(2.03, 0), "other": Figure(4.0, 5), "many": Figure(5.0, 66)}
    for measured in (RECORDED, nearly):
        assert list(faults("avx512", measured, RECORDED, 0.02)) == []


def test_a_kernel_that_is_not_counted_any_more_is_a_fault() -> None:
    assert any("not counted" in fault for fault in faults("avx2", {WIDE: Figure(2, 0)}, RECORDED, 0.02))


def test_the_record_has_the_sets_that_are_compared() -> None:
    levels = json.loads(RECORD.read_text())["levels"]
    assert set(levels) == {"avx512", "avx2"}
    assert levels["avx512"][WIDE][1] == 0
