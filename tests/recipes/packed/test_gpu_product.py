"""The adapters' product as a GPU computes it, run on a CPU beside the CPU's own."""

import pytest

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("scales", [[2.0, 2.0, 2.0], [1.0, 2.0, 0.5]], ids=["one scale", "a scale each"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("drops", [True, False])
def test_output_and_gradients_are_those_of_the_cpus_product(scales: list[float], bias: bool, drops: bool) -> None:
    from recipes.engines.packed import linear

    torch.manual_seed(0)
    layer = linear.PackedLinear(torch.nn.Linear(24, 40, bias=bias).requires_grad_(False))
    inputs, grad = torch.randn(3, 10, 24), torch.randn(3, 10, 40)
    a, b = torch.randn(3, 4, 24), torch.randn(3, 40, 4)
    mask = (torch.rand(3, 10, 24) > 0.3).float() if drops else None
    found = []
    for product in (linear._PackedProduct, linear._GpuProduct):
        x = inputs.clone().requires_grad_()
        binding = linear.Binding(
            a=a,
            b=b,
            scale=torch.tensor(scales)[:, None, None],
            common_scale=scales[0] if len(set(scales)) == 1 else None,
            grad_a=torch.ones_like(a),  # what earlier passes of the same step left
            grad_b=torch.ones_like(b),
            tick=torch.zeros((), requires_grad=True),
        )
        y = product.apply(x, binding.tick, layer, binding, mask)
        y.backward(grad)
        found.append([y.detach(), x.grad, binding.grad_a, binding.grad_b])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
