"""Time of a training step, facemark beside PyTorch: same network, same batch, same threads, taking turns.

    compare.py TRAINING_STEP_BINARY [--architecture NAME] [--batch N] [--threads N] [--rounds N] [--steps N]

Both sides are processes of their own that wait while the other works; which one begins changes from round to round. Wall
time is what each side measures around its steps; CPU time is what the system says its threads have used, so that it
also counts threads that spin. Printed are medians over the rounds and the median of the rounds' ratios. `run.sh` sets
everything up.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time


def cpu_seconds(pid):
    """CPU time of all threads of a process, in seconds."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat") as file:
            total += int(file.read().split()[0])
    return total / 1e9


# --- the PyTorch side ---------------------------------------------------------------------------------------------


def torch_side(forward, batch, threads):
    """Rebuilds the network of an ONNX file and serves training steps of it, as the facemark side does."""
    import onnx
    import torch
    import torch.nn.functional as F
    from onnx import numpy_helper
    from torch import nn

    torch.set_num_threads(threads)
    torch.manual_seed(1)
    graph = onnx.load(forward).graph
    constants = {item.name: torch.from_numpy(numpy_helper.to_array(item).copy()) for item in graph.initializer}

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.weights = nn.ParameterDict()
            self.norms = nn.ModuleDict()
            for node in graph.node:
                if node.op_type == "BatchNormalization":
                    norm = nn.BatchNorm2d(constants[node.input[1]].numel())
                    with torch.no_grad():
                        norm.weight.copy_(constants[node.input[1]])
                        norm.bias.copy_(constants[node.input[2]])
                    self.norms[node.output[0].replace(".", "/")] = norm
                elif node.op_type in ("Conv", "Gemm"):
                    for name in node.input[1:]:
                        self.weights[name.replace(".", "/")] = nn.Parameter(constants[name])

        def forward(self, image):
            values = {"image": image}
            for node in graph.node:
                attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
                x = values[node.input[0]]
                weights = [self.weights[name.replace(".", "/")] for name in node.input[1:]] if node.op_type in ("Conv", "Gemm") else []
                if node.op_type == "Conv":
                    y = F.conv2d(
                        x,
                        *weights,
                        stride=attributes["strides"],
                        padding=attributes["pads"][:2],
                        groups=attributes.get("group", 1),
                    )
                elif node.op_type == "BatchNormalization":
                    y = self.norms[node.output[0].replace(".", "/")](x)
                elif node.op_type == "Relu":
                    y = F.relu(x)
                elif node.op_type == "Add":
                    y = x + values[node.input[1]]
                elif node.op_type == "GlobalAveragePool":
                    y = x.mean(dim=(2, 3), keepdim=True)
                elif node.op_type == "Flatten":
                    y = torch.flatten(x, attributes.get("axis", 1))
                elif node.op_type == "Reshape":
                    y = x.reshape(x.shape[0], -1)
                elif node.op_type == "Gemm":
                    assert attributes.get("transB") == 1
                    y = F.linear(x, *weights)
                elif node.op_type == "Resize":
                    y = F.interpolate(x, scale_factor=2, mode="nearest")
                else:
                    raise SystemExit(f"compare.py does not know the operator {node.op_type}")
                values[node.output[0]] = y
            return [values[item.name] for item in graph.output]

    net = Net()
    decaying = [p for p in net.parameters() if p.dim() > 1]
    others = [p for p in net.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW([{"params": decaying, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}], lr=1e-3)
    shape = [dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim]
    image = torch.rand(batch, *shape[1:]) * 2 - 1
    with torch.no_grad():
        targets = [torch.rand_like(output) * 2 - 1 for output in net(image)]
    tracked = list(net.parameters()) + [b for b in net.buffers() if b.dtype == torch.float32]
    average = [tensor.detach().clone() for tensor in tracked]

    def step():
        optimizer.zero_grad()
        loss = sum(F.smooth_l1_loss(output, target, beta=0.1) for output, target in zip(net(image), targets))
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, tracked, 0.001)
        return loss.item()

    print("ready", flush=True)
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            start = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - start)
        print(*seconds, flush=True)


# --- the comparison -----------------------------------------------------------------------------------------------


class Side:
    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline().strip() != "ready":
            raise SystemExit(f"{command[0]} did not start")

    def steps(self, count):
        """Wall and CPU seconds a step."""
        before = cpu_seconds(self.process.pid)
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        wall = [float(text) for text in self.process.stdout.readline().split()]
        if len(wall) != count:
            raise SystemExit("a side stopped")
        return statistics.median(wall), (cpu_seconds(self.process.pid) - before) / count

    def peak_mebibytes(self):
        with open(f"/proc/{self.process.pid}/status") as file:
            line = next(line for line in file if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--architecture", default="landmarks-base")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=4, help="steps of each side in a round")
    parser.add_argument("--torch-side", metavar="FORWARD")
    options = parser.parse_args()
    if options.torch_side:
        torch_side(options.torch_side, options.batch, options.threads)
        return
    with tempfile.TemporaryDirectory() as folder:
        forward = os.path.join(folder, "forward.onnx")
        ours = Side([options.binary, options.architecture, str(options.batch), str(options.threads), forward])
        numbers = ["--batch", str(options.batch), "--threads", str(options.threads)]
        theirs = Side([sys.executable, __file__, options.binary, "--torch-side", forward, *numbers])
        sides = {"facemark": ours, "pytorch": theirs}
        for side in sides.values():
            side.steps(3)
        rounds = {name: [] for name in sides}
        for index in range(options.rounds):
            order = list(sides.items())
            for name, side in order if index % 2 == 0 else reversed(order):
                rounds[name].append(side.steps(options.steps))
        result = {"architecture": options.architecture, "batch": options.batch, "threads": options.threads}
        for kind, column in (("wall", 0), ("cpu", 1)):
            for name in sides:
                result[f"{name}_{kind}_ms"] = round(1e3 * statistics.median(r[column] for r in rounds[name]), 1)
            ratios = [a[column] / b[column] for a, b in zip(rounds["facemark"], rounds["pytorch"])]
            result[f"{kind}_ratio"] = round(statistics.median(ratios), 3)
        for name, side in sides.items():
            result[f"{name}_peak_mib"] = round(side.peak_mebibytes())
            side.process.stdin.close()
            side.process.wait()
        print(json.dumps(result))


main()
