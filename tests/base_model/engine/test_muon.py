"""Muon: what it orthogonalises, and that it is the published algorithm."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from base_model.engine import muon
from base_model.engine.engine import OptimConfig, make_optimizer
from base_model.engine.muon import MuonAdamW, is_muon_weight, newton_schulz

SHAPES = [(16, 16), (16, 16), (48, 16), (16, 48), (16, 48), (16, 16)]


def matrices(seed: int, shapes: Sequence[tuple[int, ...]] = SHAPES) -> list[nn.Parameter]:
    random = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=random)) for shape in shapes]


def optimizer(
    params: list[nn.Parameter], lr: float = 0.02, weight_decay: float = 0.0, bf16: bool = False
) -> MuonAdamW:  # fmt: skip
    group = {"params": params, "lr": lr, "weight_decay": weight_decay, "muon": True}
    return MuonAdamW([group], (0.9, 0.95), 1e-8, momentum=0.95, bf16=bf16)


def fill_gradients(params: list[nn.Parameter], seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    for p in params:
        p.grad = torch.randn(p.shape, generator=random)


@pytest.mark.parametrize("shape", [(32, 32), (64, 16), (16, 64)])
def test_singular_values_come_near_one(shape: tuple[int, int]) -> None:
    noise = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    u, values, v = torch.linalg.svd(noise, full_matrices=False)
    values = torch.linspace(0.2, 1.0, values.shape[1]) * torch.tensor([1e-4, 1.0, 1e4])[:, None]
    X = newton_schulz(u * values[:, None] @ v)
    values = torch.linalg.svdvals(X)
    assert values.min() > 0.5
    assert values.max() < 1.3
    rotated = u.mT @ X @ v.mT  # the same singular vectors: diagonal between them
    assert (rotated - torch.diag_embed(torch.diagonal(rotated, dim1=1, dim2=2))).abs().max() < 1e-3


@pytest.mark.parametrize("shape", [(16, 32), (48, 16), (16, 31), (16, 16)])
def test_long_matrices_through_their_gram_matrix_are_the_same_iteration(shape: tuple[int, int]) -> None:
    """Also where singular values span six orders of magnitude, of which squares would span twelve."""
    random = torch.Generator().manual_seed(1)
    u, _, v = torch.linalg.svd(torch.randn(3, *shape, generator=random), full_matrices=False)
    U = u * torch.logspace(0, -6, u.shape[2]) @ v
    X = U.double() / U.double().norm(dim=(1, 2), keepdim=True)
    a, b, c = muon.COEFFICIENTS
    for _ in range(muon.ITERATIONS):
        A = X @ X.mT
        X = a * X + (b * A + c * A @ A) @ X
    assert (newton_schulz(U) - X).abs().max() < 1e-3  # of values up to 1.2
    assert newton_schulz(U.bfloat16()).norm(dim=(1, 2)).max() < 1.3 * min(shape) ** 0.5, "singular values exploded"


def test_parity_with_torch() -> None:
    """torch iterates in bfloat16, so updates agree to that precision; its momentum and scaling are the same."""
    ours, theirs = matrices(0), matrices(0)
    start = [p.detach().clone() for p in ours]
    mine = optimizer(ours, weight_decay=0.1)
    reference = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, momentum=0.95)
    for step in range(5):
        fill_gradients(ours, step)
        fill_gradients(theirs, step)
        mine.step()
        reference.step()
    for a, b, s in zip(ours, theirs, start, strict=True):
        assert (a - b).norm() < 0.02 * (b - s).norm()


def test_parity_with_torch_in_one_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """With torch kept in float32 the two agree to rounding."""
    monkeypatch.setattr(Tensor, "bfloat16", lambda tensor: tensor.clone())
    test_parity = matrices(1), matrices(1)
    mine = optimizer(test_parity[0], weight_decay=0.1)
    reference = torch.optim.Muon(test_parity[1], lr=0.02, weight_decay=0.1, momentum=0.95)
    for step in range(5):
        for params in test_parity:
            fill_gradients(params, step)
        mine.step()
        reference.step()
    for a, b in zip(*test_parity, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-6)


def test_bfloat16_is_in_the_products_alone() -> None:
    """Momenta and weights stay float32, and the update is that of float32 to two digits."""
    half, whole = matrices(5), matrices(5)
    start = [p.detach().clone() for p in half]
    settings = OptimConfig(steps=10, muon_bf16=True)
    assert make_optimizer({f"blocks.0.{i}.weight": p for i, p in enumerate(half)}, settings).products == torch.bfloat16
    for params, bf16 in ((half, True), (whole, False)):
        fill_gradients(params, 0)
        mine = optimizer(params, bf16=bf16)
        mine.step()
        assert {mine.state[p]["momentum_buffer"].dtype for p in params} == {torch.float32}
    for a, b, s in zip(half, whole, start, strict=True):
        step, exact = a.detach() - s, b.detach() - s
        assert 1e-4 < float((step - exact).norm() / exact.norm()) < 0.05


def test_one_batched_iteration_a_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every weight is orthogonalised at every step, and equal shapes together."""
    stacks: list[tuple[int, ...]] = []

    def counted(U: Tensor) -> Tensor:
        stacks.append(tuple(U.shape))
        return newton_schulz(U)

    monkeypatch.setattr(muon, "newton_schulz", counted)
    params = matrices(2)
    mine = optimizer(params)
    for step in range(3):
        fill_gradients(params, step)
        mine.step()
    assert sorted(stacks) == sorted([(3, 16, 16), (1, 48, 16), (2, 16, 48)] * 3)


def test_stacking_changes_nothing() -> None:
    together, alone = matrices(3), matrices(3)
    one, many = optimizer(together), [optimizer([p]) for p in alone]
    for step in range(3):
        fill_gradients(together, step)
        fill_gradients(alone, step)
        for each in (one, *many):
            each.step()
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_a_kernel_is_a_matrix_of_one_row_an_output_channel() -> None:
    kernel, flat = matrices(4, [(8, 4, 3, 3)])[0], matrices(4, [(8, 36)])[0]
    fill_gradients([kernel], 0)
    fill_gradients([flat], 0)
    optimizer([kernel]).step()
    optimizer([flat]).step()
    assert torch.equal(kernel.flatten(1), flat)


def test_without_gradient_nothing_moves() -> None:
    params = matrices(5)
    before = params[1].detach().clone()
    mine = optimizer(params, weight_decay=0.5)
    fill_gradients(params, 0)
    params[1].grad = None
    mine.step()
    assert torch.equal(params[1], before)
    assert not mine.state[params[1]]


def test_state_survives_saving() -> None:
    first, second = matrices(6), matrices(6)
    mine, other = optimizer(first), optimizer(second)
    fill_gradients(first, 0)
    mine.step()
    for a, b in zip(first, second, strict=True):
        b.data.copy_(a)
    other.load_state_dict(deepcopy(mine.state_dict()))
    for params, each in ((first, mine), (second, other)):
        fill_gradients(params, 1)
        each.step()
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_vectors_are_refused() -> None:
    with pytest.raises(ValueError, match=r"given shapes \[\(5,\)\]"):
        optimizer([nn.Parameter(torch.zeros(5))])


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("transformer_blocks.0.attn.to_q.weight", (8, 8), True),
        ("transformer_blocks.0.attn.to_add_out.weight", (8, 8), True),
        ("transformer_blocks.11.txt_mlp.net.2.weight", (8, 32), True),
        ("transformer_blocks.0.img_mod.1.weight", (48, 8), False),
        ("transformer_blocks.0.txt_mod.1.weight", (48, 8), False),
        ("transformer_blocks.0.attn.to_q.bias", (8,), False),
        ("transformer_blocks.0.attn.norm_q.weight", (8,), False),
        ("transformer_blocks.0.attn.to_q.lora_A.weight", (4, 8), False),
        ("img_in.weight", (8, 8), False),
        ("proj_out.weight", (8, 8), False),
        ("time_text_embed.timestep_embedder.linear_1.weight", (8, 8), False),
        ("encoder.down_blocks.0.conv1.weight", (8, 8, 3, 3), True),
        ("decoder.conv_out.weight", (3, 8, 3, 3), False),
    ],
)
def test_which_weights(name: str, shape: tuple[int, ...], expected: bool) -> None:
    assert is_muon_weight(name, nn.Parameter(torch.zeros(shape))) is expected


class Net(nn.Module):
    """One block weight beside everything that Muon leaves alone."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer_blocks = nn.ModuleList([nn.Linear(4, 4)])
        self.out = nn.Linear(4, 1)


def test_every_weight_is_in_one_group_with_its_rate() -> None:
    net = Net()
    made = make_optimizer(
        dict(net.named_parameters()), OptimConfig(steps=1, muon_lr=0.03, adamw_lr=0.004, weight_decay=0.1)
    )
    groups = {
        name: (group["base_lr"], group["weight_decay"], group["muon"])
        for group in made.param_groups
        for p in group["params"]
        for name, q in net.named_parameters()
        if p is q
    }
    assert groups == {
        "transformer_blocks.0.weight": (0.03, 0.1, True),
        "transformer_blocks.0.bias": (0.004, 0.0, False),
        "out.weight": (0.004, 0.1, False),
        "out.bias": (0.004, 0.0, False),
    }
    off = make_optimizer(dict(net.named_parameters()), OptimConfig(steps=1, muon_lr=0.0))
    assert not any(group["muon"] for group in off.param_groups)


def test_other_groups_are_plain_adamw() -> None:
    """The group beside Muon moves as torch's AdamW moves it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net, twin = Net(), Net()
    twin.load_state_dict(net.state_dict())
    cfg = OptimConfig(steps=1, adamw_lr=0.01, weight_decay=0.1)
    mine = make_optimizer(dict(net.named_parameters()), cfg)
    rest = [[twin.out.weight], [twin.transformer_blocks[0].bias, twin.out.bias]]
    theirs = torch.optim.AdamW(
        [{"params": rest[0], "weight_decay": 0.1}, {"params": rest[1], "weight_decay": 0.0}],
        lr=0.01,
        betas=cfg.betas,
        eps=cfg.eps,
    )
    for step in range(4):
        fill_gradients(list(net.parameters()), step)
        fill_gradients(list(twin.parameters()), step)
        mine.step()
        theirs.step()
    torch.testing.assert_close(net.out.weight, twin.out.weight, rtol=0, atol=1e-7)
    torch.testing.assert_close(net.out.bias, twin.out.bias, rtol=0, atol=1e-7)
    assert not torch.equal(net.transformer_blocks[0].weight, twin.transformer_blocks[0].weight)
