"""What is read from a compiled program's text, of programs whose work is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from benchmarks import hlo
from benchmarks.ahead import LAUNCH, TARGETS, device, floor, native
from mamt_jax.errors import ConfigError

H100 = TARGETS["h100"]


def body_of(function: Callable[..., Any], *arguments: Any) -> hlo.Body:
    return hlo.read(jax.jit(function).lower(*arguments).compile().as_text())


def products(body: hlo.Body) -> int:
    return sum(times * kernel.multiply_adds for times, kernel in body.total())


FUSED = """HloModule m

%inside (p0: f32[100,8], p1: f32[2,8], p2: s32[]) -> f32[100,8] {
  %p0 = f32[100,8]{1,0} parameter(0)
  %p1 = f32[2,8]{1,0} parameter(1)
  %p2 = s32[] parameter(2)
  %zero = s32[] constant(0)
  ROOT %dus = f32[100,8]{1,0} dynamic-update-slice(%p0, %p1, %p2, %zero)
}

%dots (a: f32[4,16,8], b: f32[4,8,32]) -> f32[4,16,32] {
  %a = f32[4,16,8]{2,1,0} parameter(0)
  %b = f32[4,8,32]{2,1,0} parameter(1)
  ROOT %dot.1 = f32[4,16,32]{2,1,0} dot(%a, %b), lhs_batch_dims={0}, lhs_contracting_dims={2}, rhs_batch_dims={0}, rhs_contracting_dims={1}, operand_precision={highest,highest}
}

%often (s: (s32[], f32[100,8], f32[2,8])) -> (s32[], f32[100,8], f32[2,8]) {
  %s = (s32[], f32[100,8]{1,0}, /*index=2*/f32[2,8]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %x = f32[100,8]{1,0} get-tuple-element(%s), index=1
  %y = f32[2,8]{1,0} get-tuple-element(%s), index=2
  %put = f32[100,8]{1,0} fusion(%x, %y, %i), kind=kLoop, calls=%inside
  %copy.1 = s32[] copy(%i)
  ROOT %t = (s32[], f32[100,8]{1,0}, f32[2,8]{1,0}) tuple(%copy.1, %put, %y)
}

%never (s.1: (s32[], f32[100,8], f32[2,8])) -> pred[] {
  %s.1 = (s32[], f32[100,8]{1,0}, f32[2,8]{1,0}) parameter(0)
  ROOT %no = pred[] constant(false)
}

ENTRY %main (i: s32[], x: f32[100,8], y: f32[2,8], a: f32[4,16,8], b: f32[4,8,32]) -> f32[] {
  %i = s32[] parameter(0)
  %x = f32[100,8]{1,0} parameter(1)
  %y = f32[2,8]{1,0} parameter(2)
  %a = f32[4,16,8]{2,1,0} parameter(3)
  %b = f32[4,8,32]{2,1,0} parameter(4)
  %gemm = f32[4,16,32]{2,1,0} fusion(%a, %b), kind=kCustom, calls=%dots
  %start = (s32[], f32[100,8]{1,0}, f32[2,8]{1,0}) tuple(%i, %x, %y)
  ROOT %loop = (s32[], f32[100,8]{1,0}, f32[2,8]{1,0}) while(%start), condition=%never, body=%often, metadata={op_name="jit(f)/updates/while"}, backend_config={"known_trip_count":{"n":"5"}}
}
"""  # noqa: E501


def test_kernels_loops_bytes_and_products_of_a_text() -> None:
    body = hlo.read(FUSED)
    (gemm,), (loop,) = body.kernels, body.loops
    assert gemm.multiply_adds == 4 * 16 * 32 * 8 and gemm.precision == "highest"
    assert (gemm.read, gemm.written) == (4 * 4 * (16 * 8 + 8 * 32), 4 * 4 * 16 * 32)
    put, copy = loop.body.kernels
    assert loop.trips == 5 and body.find("updates") is loop.body and body.find("collect") is None
    assert (put.read, put.written) == (4 * 2 * 8 + 4, 4 * 2 * 8)  # in place: rows and an index
    assert copy.name == "copy.1"
    assert [times for times, _ in body.total()] == [1, 5, 5]


def test_multiply_adds_of_a_compiled_loop_are_those_of_its_shapes() -> None:
    x = jnp.ones((64, 48))

    def function(x: jax.Array, w: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda x, _: (jnp.tanh(x @ w), None), x, None, length=7)[0]

    assert products(body_of(function, x, jnp.ones((48, 48)))) == 7 * 64 * 48 * 48


def test_branches_and_products_outside_of_fusions_are_found() -> None:
    def function(x: jax.Array, w: jax.Array, i: jax.Array) -> jax.Array:
        return jax.lax.switch(i, [lambda: x, lambda: jnp.sin(x @ w), lambda: x @ w @ w @ w])

    body = body_of(function, jnp.ones((64, 64)), jnp.ones((64, 64)), jnp.int32(1))
    assert len(body.branches) == 1 and products(body) == 3 * 64**3


def test_a_kernel_takes_its_launch_its_bytes_or_its_products() -> None:
    small = hlo.Kernel("", 4, 4, 0, "")
    wide = hlo.Kernel("", 10**9, 10**9, 10**6, "highest")
    product = hlo.Kernel("", 10**6, 10**6, 10**10, "highest")
    assert floor(small, H100) == LAUNCH
    assert floor(wide, H100) == pytest.approx(2e9 / 3.35e12)
    assert floor(product, H100) == pytest.approx(1e10 / 33.45e12)
    fast = [floor(product._replace(precision=p), H100) for p in ("dot_tf32_tf32_f32_x3", "high")]
    assert fast[0] == pytest.approx(3 * fast[1])


def test_what_cannot_be_compiled_for_is_refused() -> None:
    with pytest.raises(ConfigError, match="multiwalker_host is stepped on the host"):
        native("multiwalker_host")


def test_without_the_plugin_it_says_what_to_install() -> None:
    pytest.importorskip("jax")
    try:
        import jax_cuda13_plugin  # noqa: F401
    except ImportError:
        with pytest.raises(ConfigError, match=r"pip install 'mamt-jax\[cuda13\]'"):
            device(H100)
