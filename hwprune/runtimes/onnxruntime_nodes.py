"""Which nodes of the exported graph a kernel of ONNX Runtime stands for.

The profiler calls a fused kernel after one of its nodes, mostly the last ("layer1.0.relu1/Relu_nchwc" is convolution,
batch norm and ReLU), sometimes one in the middle (an addition and a ReLU go into the convolution before them, which
keeps the name of its batch norm). The rest follows from the exported graph, in which every node is named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnx import ModelProto, NodeProto

from hwprune.runtimes.base import LayerKind

MAIN = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
LAYOUT_PREFIXES = ("ReorderInput", "ReorderOutput")
COPY_PREFIXES = ("Memcpy",)


def kind_of(kernel: str) -> LayerKind:
    """Whether a kernel computes something, only changes a layout, or only copies between devices.

    >>> kind_of("ReorderOutput_token_58"), kind_of("MemcpyToHost"), kind_of("conv1/Conv_nchwc")
    ('reformat', 'copy', 'layer')
    """
    if kernel.startswith(LAYOUT_PREFIXES):
        return "reformat"
    return "copy" if kernel.startswith(COPY_PREFIXES) else "layer"


def nodes_of(kernels: Sequence[str], model: ModelProto) -> list[tuple[str, ...]]:
    """For each kernel, in order of execution, the names of the exported nodes it stands for, in the graph's order.

    A node belongs to one kernel at most. A chain of unclaimed nodes from a kernel's own node back to a convolution or
    product is that kernel's, and so is what follows it and has no kernel of its own. A kernel that changes a layout or
    copies stands for no node of its own: it gets the nodes of the next kernel that does, which is what it is for.
    """
    graph = _Graph(model)
    own = [None if kind_of(kernel) != "layer" else graph.named(kernel) for kernel in kernels]
    owner: dict[str, int] = {}
    for place, node in enumerate(own):
        if node is not None:
            owner.setdefault(node, place)
    for place, node in enumerate(own):
        if node is not None:
            owner.update((name, place) for name in graph.gates(node) if name not in owner)
            owner.update((name, place) for name in graph.back_to_main(node, owner))
    for node in model.graph.node:  # in topological order
        if node.name not in owner:
            made = [owner[graph.makers[v]] for v in node.input if graph.makers.get(v) in owner]
            if made:
                owner[node.name] = max(made)
    found: list[list[str]] = [[] for _ in kernels]
    for node in model.graph.node:
        if node.name in owner:
            found[owner[node.name]].append(node.name)
    return [tuple(names or next((later for later in found[place:] if later), [])) for place, names in enumerate(found)]


class _Graph:
    """The exported graph by names."""

    def __init__(self, model: ModelProto) -> None:
        self.nodes: Mapping[str, NodeProto] = {node.name: node for node in model.graph.node}
        self.makers = {value: node.name for node in model.graph.node for value in node.output}

    def named(self, kernel: str) -> str | None:
        """The node that a kernel is called after: what ONNX Runtime appends to a name varies with the fusion."""
        end = len(kernel)
        while end > 0:
            if kernel[:end] in self.nodes and kernel[end : end + 1] in ("", "_", "/"):
                return kernel[:end]
            end -= 1
        return None

    def gates(self, name: str) -> list[str]:
        """What only a node itself reads, made from its own other input: the sigmoid of x * sigmoid(x)."""
        node = self.nodes[name]
        makers = [self.nodes[self.makers[v]] for v in node.input if v in self.makers]
        return [maker.name for maker in makers if set(maker.input) < set(node.input)]

    def back_to_main(self, name: str, owner: Mapping[str, int]) -> list[str]:
        """Unclaimed nodes from this one's input back to a convolution or product; none where there is none."""
        chain: list[str] = []
        node = self.nodes[name]
        while node.op_type not in MAIN:
            before = {self.makers[v] for v in node.input if v in self.makers}
            free = [maker for maker in before if maker not in owner and maker not in chain]
            if len(free) != 1:
                return []
            chain.append(free[0])
            node = self.nodes[free[0]]
        return chain
