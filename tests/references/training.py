"""Reference values of training from PyTorch: losses with their gradients, and ten training steps of a small network.

    python tests/references/training.py > tests/references/training.json

Needs torch. Weights and batches follow from `wave`, which the test computes too, so that only results are stored.
"""

import json
import math

import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
torch.use_deterministic_algorithms(True)


def wave(count, seed, scale=1.0):
    """`scale * sin(1.7 i + seed)` for i = 0, 1, .., in f64, rounded to f32."""
    values = [scale * math.sin(1.7 * i + seed) for i in range(count)]
    return torch.tensor(values, dtype=torch.float64).to(torch.float32)


# --- losses -------------------------------------------------------------------------------------------------------

ROWS, COLUMNS = 5, 6


def wing(d, width, curvature):
    """Feng et al. 2018, eq. 5."""
    constant = width - width * math.log(1 + width / curvature)
    d = d.abs()
    return torch.where(d < width, width * torch.log(1 + d / curvature), d - constant)


def focal(logit, target, alpha, gamma):
    """Lin et al. 2017, eq. 5, with the modulation of Li et al. 2020 for targets between 0 and 1."""
    entropy = F.binary_cross_entropy_with_logits(logit, target, reduction="none")
    distance = (target - logit.sigmoid()).abs()
    balance = alpha * target + (1 - alpha) * (1 - target)
    return balance * distance**gamma * entropy


LOSSES = [
    ({"kind": "mse"}, lambda x, t: (x - t) ** 2),
    ({"kind": "l1"}, lambda x, t: (x - t).abs()),
    ({"kind": "smooth-l1", "beta": 0.4}, lambda x, t: F.smooth_l1_loss(x, t, beta=0.4, reduction="none")),
    ({"kind": "wing", "width": 0.6, "curvature": 0.2}, lambda x, t: wing(x - t, 0.6, 0.2)),
    ({"kind": "binary-cross-entropy"}, lambda x, t: F.binary_cross_entropy_with_logits(x, t, reduction="none")),
    ({"kind": "focal", "alpha": 0.25, "gamma": 2.0}, lambda x, t: focal(x, t, 0.25, 2.0)),
    ({"kind": "focal", "alpha": 0.6, "gamma": 1.5}, lambda x, t: focal(x, t, 0.6, 1.5)),
]


def losses():
    cases = []
    for kind, each in LOSSES:
        of_logits = kind["kind"] in ("binary-cross-entropy", "focal")
        for weighted in (False, True):
            # Logits up to 40 show whether a loss loses its digits far from 0.
            output = wave(ROWS * COLUMNS, 0.3, 40.0 if of_logits else 2.0).reshape(ROWS, COLUMNS)
            output.requires_grad_(True)
            target = wave(ROWS * COLUMNS, 1.1, 1.5).reshape(ROWS, COLUMNS)
            if of_logits:
                target = (target > 0).float()
            value = each(output, target)
            if weighted:
                weight = torch.tensor([0.0, 1.0, 0.5, 2.0, 0.0]).reshape(ROWS, 1)
                total = (value * weight).sum() / max(1.0, float(weight.sum() * COLUMNS))
            else:
                total = value.mean()
            total = 3.0 * total
            total.backward()
            cases.append(
                {
                    "kind": kind,
                    "weighted": weighted,
                    "value": total.item(),
                    "gradient": output.grad.flatten().tolist(),
                }
            )
    return cases


def laplace():
    """Laplace's negative log-likelihood of points whose log scale the network says, as a weighted mean."""
    points = wave(ROWS * COLUMNS, 0.3, 1.0).reshape(ROWS, COLUMNS).requires_grad_(True)
    log_scale = wave(ROWS * COLUMNS // 2, 0.7, 1.0).reshape(ROWS, COLUMNS // 2).requires_grad_(True)
    target = wave(ROWS * COLUMNS, 1.1, 1.5).reshape(ROWS, COLUMNS)
    weight = torch.tensor([0.0, 1.0, 0.5, 2.0, 0.0]).reshape(ROWS, 1)
    distance = (points - target).abs().reshape(ROWS, COLUMNS // 2, 2).sum(dim=2)
    value = distance * (-log_scale).exp() + 2 * log_scale
    total = 3.0 * (value * weight).sum() / (weight.sum() * COLUMNS / 2)
    total.backward()
    return {
        "value": total.item(),
        "points_gradient": points.grad.flatten().tolist(),
        "log_scale_gradient": log_scale.grad.flatten().tolist(),
    }


# --- ten steps ----------------------------------------------------------------------------------------------------

BATCH, SIZE, OUTPUTS, STEPS = 4, 13, 6, 10


class Net(nn.Module):
    """Dense, depthwise (stride 1 and 2) and pointwise convolutions, batch norm, max pool, average pool, linear."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.stem_bn = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.depthwise_bn = nn.BatchNorm2d(8)
        self.pointwise = nn.Conv2d(8, 16, 1, bias=False)
        self.pointwise_bn = nn.BatchNorm2d(16)
        self.reduce = nn.Conv2d(16, 16, 5, stride=2, padding=2, groups=16, bias=False)
        self.reduce_bn = nn.BatchNorm2d(16)
        self.linear = nn.Linear(16, OUTPUTS)

    def forward(self, x):
        x = F.relu(self.stem_bn(self.stem(x)))
        x = F.relu6(self.depthwise_bn(self.depthwise(x)))
        x = F.relu(self.pointwise_bn(self.pointwise(x)))
        x = self.reduce_bn(self.reduce(x))
        x = F.max_pool2d(x, 2, stride=1)
        return self.linear(x.mean(dim=(2, 3)))


def parameters_in_order(net):
    """In the order in which the test's graph first uses them."""
    for layer in (net.stem, net.depthwise, net.pointwise, net.reduce):
        yield layer.weight
        bn = {net.stem: net.stem_bn, net.depthwise: net.depthwise_bn, net.pointwise: net.pointwise_bn}.get(
            layer, net.reduce_bn
        )
        yield bn.weight
        yield bn.bias
    yield net.linear.weight
    yield net.linear.bias


def running_in_order(net):
    for bn in (net.stem_bn, net.depthwise_bn, net.pointwise_bn, net.reduce_bn):
        yield bn.running_mean
        yield bn.running_var


def flat(tensors):
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


class Muon(torch.optim.Optimizer):
    """Jordan et al. 2024 for convolutions that mix channels, with the step length of Liu et al. 2025; AdamW for the rest."""

    def __init__(self, decaying, others, lr, decay, momentum, beta2, eps):
        matrices = [p for p in decaying if p.dim() == 4 and p.shape[1] > 1]
        rest = [p for p in decaying if all(p is not m for m in matrices)]
        self.adam = torch.optim.AdamW(
            [{"params": rest, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}],
            lr=lr, betas=(momentum, beta2), eps=eps,
        )
        super().__init__(matrices, dict(lr=lr, decay=decay, momentum=momentum))

    @staticmethod
    def orthogonal(matrix):
        a, b, c = 3.4445, -4.7750, 2.0315
        x = matrix.double()
        x = x / (x.norm() + 1e-7)
        if stands := x.shape[0] > x.shape[1]:
            x = x.T
        for _ in range(5):
            gram = x @ x.T
            x = a * x + (b * gram + c * gram @ gram) @ x
        return (x.T if stands else x).float()

    def zero_grad(self):
        super().zero_grad()
        self.adam.zero_grad()

    @torch.no_grad()
    def step(self):
        self.adam.step()
        for group in self.param_groups:
            beta = group["momentum"]
            for p in group["params"]:
                first = self.state[p].setdefault("first", torch.zeros_like(p))
                first.lerp_(p.grad, 1 - beta)
                ahead = p.grad.lerp(first, beta).reshape(p.shape[0], -1)
                length = 0.2 * math.sqrt(max(ahead.shape))
                direction = length * self.orthogonal(ahead).reshape(p.shape)
                p.sub_(group["lr"] * (direction + group["decay"] * p))


def training(name, make_optimizer, max_norm, alpha):
    net = Net()
    with torch.no_grad():
        for index, parameter in enumerate(parameters_in_order(net)):
            if parameter.dim() > 1:
                fan_in = parameter[0].numel()
                parameter.copy_(wave(parameter.numel(), index, math.sqrt(3.0 / fan_in)).reshape(parameter.shape))
            else:
                offset = 1.0 if index % 3 == 1 and index < 12 else 0.0
                parameter.copy_(offset + wave(parameter.numel(), index, 0.1))
    decaying = [p for p in net.parameters() if p.dim() > 1]
    others = [p for p in net.parameters() if p.dim() <= 1]
    optimizer = make_optimizer(decaying, others)
    ema = torch.cat([flat(parameters_in_order(net)), flat(running_in_order(net))])
    losses, norms = [], []
    for step in range(STEPS):
        image = wave(BATCH * 3 * SIZE * SIZE, 100.0 + step, 1.5).reshape(BATCH, 3, SIZE, SIZE)
        target = wave(BATCH * OUTPUTS, 200.0 + step, 1.0).reshape(BATCH, OUTPUTS)
        optimizer.zero_grad()
        loss = F.smooth_l1_loss(net(image), target, beta=0.5)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(net.parameters(), max_norm)
        optimizer.step()
        now = torch.cat([flat(parameters_in_order(net)), flat(running_in_order(net))])
        weight = max(alpha, 9.0 / (10.0 + step))
        ema = ema + weight * (now - ema)
        losses.append(loss.item())
        norms.append(norm.item())
    return {
        "name": name,
        "losses": losses,
        "gradient_norms": norms,
        "parameters": flat(parameters_in_order(net)).tolist(),
        "running": flat(running_in_order(net)).tolist(),
        "ema": ema.tolist(),
    }


def main():
    groups = lambda decaying, others, decay: [
        {"params": decaying, "weight_decay": decay},
        {"params": others, "weight_decay": 0.0},
    ]
    trainings = [
        training(
            "adamw",
            lambda d, o: torch.optim.AdamW(groups(d, o, 0.1), lr=0.01, betas=(0.9, 0.999), eps=1e-8),
            max_norm=0.5,
            alpha=0.02,
        ),
        training(
            "muon",
            lambda d, o: Muon(d, o, lr=0.01, decay=0.1, momentum=0.95, beta2=0.99, eps=1e-8),
            max_norm=0.5,
            alpha=0.02,
        ),
        training(
            "sgd",
            lambda d, o: torch.optim.SGD(groups(d, o, 0.01), lr=0.05, momentum=0.9),
            max_norm=0.8,
            alpha=0.02,
        ),
        training(
            "nesterov",
            lambda d, o: torch.optim.SGD(groups(d, o, 0.01), lr=0.05, momentum=0.9, nesterov=True),
            max_norm=100.0,
            alpha=0.02,
        ),
    ]
    rounded = json.loads(json.dumps({"losses": losses(), "laplace": laplace(), "trainings": trainings}), parse_float=lambda t: float(f"{float(t):.9g}"))
    print(json.dumps(rounded, indent=None, separators=(",", ":")).replace('},{', '},\n{').replace('"trainings"', '\n"trainings"').replace('"laplace"', '\n"laplace"'))


main()
