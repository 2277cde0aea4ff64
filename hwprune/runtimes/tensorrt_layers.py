"""What TensorRT tells of the layers inside an engine, in every form it has for it.

    from_information   the inspector's JSON (10.x: bare names, or objects with "Format/Datatype"; 11.x: "Format" and
                       "Datatype" apart; trtexec's --exportLayerInfo is the same document)
    from_build_log     the builder's own list of layers, which it logs without a GPU as well
    completed          either of them with the nodes that the compiler forgot to tell
    joined             a profile's (name, time) pairs with any of them

Pure functions over text: nothing here imports TensorRT.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hwprune.errors import EngineError
from hwprune.runtimes.base import LayerKind, LayerTime

REFORMATTING = re.compile(r"Reformatting CopyNode for (?:Input|Output) Tensor \d+ to (.*)")
COPY = " copy"
OUTPUT = re.compile(r"_output_\d+$")  # TorchScript's exporter names the tensors of a node so
WRAPPED = re.compile(r"(?:PWN|PointWise)\((.*)\)")
FOREIGN = re.compile(r"\{ForeignNode\[(.*)\]\}")
ONNX_LAYER = re.compile(r"\[ONNX Layer: (.*?)\](?=[\x1e\x1f\s\[]|$)")
COMPILED = re.compile(r"__my[el](?:_([A-Za-z]+)|\d+)_")  # "__myl_CorrMulAddRelu_myl0_1": what the compiler has fused
MOVING = frozenset({"Move", "Cast", "Tran", "Resh", "Perm"})  # in such names: the numbers stay what they are
PADDING = MOVING | {"Conc"}  # as well, where it is no node of the network: channels of zeros are put beside them
POINTWISE = "kgen"  # the compiler's type for kernels that it writes itself; products have others
WAITING = frozenset({"signal", "wait"})  # of one stream for another: no work, no time
LOGGED = re.compile(r"Name: (?P<name>.*?), LayerType: (?P<type>[^,]*),(?P<rest>.*)", re.DOTALL)
LOGGED_TENSOR = re.compile(r"\{ Name: (.*?), Dimensions: \[([\d,]*)\].*?, Datatype: (\w+), Format: (.*?) \}")
LOG_HEAD, LOG_TAIL = "Layers:", "I/O Tensors:"


@dataclass(frozen=True, slots=True)
class EngineTensor:
    """A tensor between two layers of an engine; "" where the document does not tell.

    Attributes:
        format: layout in TensorRT's words; 10.x writes the type into it.
        datatype: of its elements.
    """

    name: str
    shape: tuple[int, ...]
    format: str
    datatype: str = ""


@dataclass(frozen=True, slots=True)
class EngineLayer:
    """A layer of an engine.

    Attributes:
        name: as the profiler calls it.
        type: in TensorRT's words, "" where only names are known.
        kind: "reformat" brings a tensor into another layout or type, "copy" only copies it.
        nodes: ONNX nodes that it stands for; of a reformat, those of the layer that needs it.
        tactic: of the kernel, "" where it is not told.
    """

    name: str
    type: str
    kind: LayerKind
    nodes: tuple[str, ...]
    inputs: tuple[EngineTensor, ...] = ()
    outputs: tuple[EngineTensor, ...] = ()
    tactic: str = ""

    @property
    def pointwise(self) -> bool:
        """Whether it is elementwise work that was fused into no convolution or product."""
        return self.kind == "layer" and (self.type.startswith("PointWise") or self.name.startswith("PWN("))


def from_information(document: str | Mapping[str, Any]) -> list[EngineLayer]:
    """Layers by the inspector's JSON, in order of execution; without those that only wait for another stream.

    Raises:
        EngineError: it is no such document.
    """
    try:
        told = json.loads(document) if isinstance(document, str) else document
        found = [_from_json(entry) for entry in told["Layers"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineError(
            "this is no engine information of TensorRT",
            where=f"{type(error).__name__}: {error}",
            fix="give the inspector's JSON, or what trtexec writes with --exportLayerInfo",
        ) from error
    return [layer for layer in found if layer.type not in WAITING]


def from_build_log(messages: Iterable[str]) -> list[EngineLayer]:
    """Layers by the verbose messages of a build; empty where the builder listed none."""
    lines = "\n".join(messages).split("\n")  # not splitlines: metadata is separated by control characters
    if LOG_HEAD not in lines:
        return []
    start = len(lines) - lines[::-1].index(LOG_HEAD)  # of the last list: a builder may have begun anew
    end = lines.index(LOG_TAIL, start) if LOG_TAIL in lines[start:] else len(lines)
    matches = (LOGGED.match(line) for line in lines[start:end])
    found = [_from_match(match) for match in matches if match is not None]
    return [layer for layer in found if layer.type not in WAITING]


def joined(times_ms: Sequence[tuple[str, float]], layers: Sequence[EngineLayer]) -> list[LayerTime]:
    """The profile's times with what is known of the layers of the same names, in the profile's order.

    A layer that the compiler made of a whole part of the network ("{ForeignNode[...]}") may be profiled as one and
    inspected as many: it then stands for all nodes that no other profiled layer has.
    """
    known = {layer.name: layer for layer in layers}
    names = {name for name, _ in times_ms}
    rest = tuple(dict.fromkeys(n for layer in layers if layer.name not in names for n in layer.nodes))
    foreign = [name for name, _ in times_ms if name not in known and FOREIGN.search(name)]
    found = []
    for name, median_ms in times_ms:
        layer = known.get(name)
        nodes = layer.nodes if layer is not None else nodes_of(name)
        if foreign == [name] and rest:
            nodes = rest
        found.append(LayerTime(name, median_ms, layer.kind if layer is not None else kind_of(name), nodes))
    return found


def kind_of(name: str, layer_type: str = "", nodes: Sequence[str] = ()) -> LayerKind:
    """What a layer does, by its name, its type and the nodes that the engine's metadata gives it.

    >>> kind_of("Reformatting CopyNode for Input Tensor 0 to conv1/Conv"), kind_of("y copy"), kind_of("conv1/Conv")
    ('reformat', 'copy', 'layer')
    >>> kind_of("__myl_Move_myl0_0"), kind_of("__myl_Move_myl0_3", nodes=["cat/Concat"])
    ('reformat', 'layer')
    """
    if REFORMATTING.fullmatch(name) or layer_type == "Reformat":
        return "reformat"
    if name.endswith(COPY):
        return "copy"
    return "reformat" if not nodes and _only(MOVING, name) else "layer"


def nodes_of(name: str) -> tuple[str, ...]:
    """ONNX nodes that a layer's name tells of; of a reformat, those of the layer that needs it.

    >>> nodes_of("/1/conv/Conv + PWN(PWN(/1/act/Sigmoid), PWN(/1/act/Mul))")
    ('/1/conv/Conv', '/1/act/Sigmoid', '/1/act/Mul')
    >>> nodes_of("Reformatting CopyNode for Input Tensor 0 to a/Conv || b/Conv"), nodes_of("/22/Mul_2_output_0 copy")
    (('a/Conv', 'b/Conv'), ('/22/Mul_2',))
    >>> nodes_of("{ForeignNode[a/Conv...b/Gemm]}"), nodes_of("__myl_Move_myl0_0")
    (('a/Conv', 'b/Gemm'), ())
    >>> nodes_of("__mye4775_myl0_113")
    ()
    """
    if (reformatted := REFORMATTING.fullmatch(name)) is not None:
        return nodes_of(reformatted[1])
    if name.endswith(COPY):
        return (OUTPUT.sub("", name.removesuffix(COPY)),)
    if COMPILED.match(name):
        return ()
    found: list[str] = []
    for part in _parts(name):
        if (foreign := FOREIGN.fullmatch(part)) is not None:
            found += foreign[1].split("...")
        elif (wrapped := WRAPPED.fullmatch(part)) is not None:
            found += nodes_of(wrapped[1])
        else:
            found.append(part)
    return tuple(dict.fromkeys(found))


def completed(layers: Sequence[EngineLayer], weighted: Sequence[str]) -> list[EngineLayer]:
    """``layers`` with what the compiler leaves out of its account, by the graph's nodes with weights in order.

    - Of some products it tells no node. Where as many layers tell none as there are convolutions and products that no
      layer stands for, they are each other's, in order.
    - It gives the padding of a convolution's input the convolution's node. That is a reformat for it.
    """
    standing = Counter(node for layer in layers for node in layer.nodes)
    missing = [node for node in weighted if node not in standing]
    silent = [i for i, one in enumerate(layers) if not one.nodes and one.kind == "layer" and one.type != POINTWISE]
    found = list(layers)
    if len(missing) == len(silent):
        for place, node in zip(silent, missing, strict=True):
            found[place] = replace(found[place], nodes=(node,))
    for place, layer in enumerate(layers):
        if layer.nodes and _only(PADDING, layer.name) and all(standing[node] > 1 for node in layer.nodes):
            found[place] = replace(layer, kind="reformat")
    return found


def _only(steps: frozenset[str], name: str) -> bool:
    """Whether a compiled layer does nothing but these steps."""
    compiled = COMPILED.match(name)
    told = re.findall("[A-Z][a-z]*", compiled[1] or "") if compiled is not None else []
    return bool(told) and steps.issuperset(told)


def _parts(name: str) -> list[str]:
    """A name cut at " + ", " || " and ", " outside parentheses."""
    parts, depth, start = [], 0, 0
    for separator in re.finditer(r"[()]| \+ | \|\| |, ", name):
        if separator[0] in "()":
            depth += 1 if separator[0] == "(" else -1
        elif depth == 0:
            parts.append(name[start : separator.start()])
            start = separator.end()
    return [part for part in (*parts, name[start:]) if part]


def _nodes_and_kind(name: str, layer_type: str, metadata: str) -> tuple[tuple[str, ...], LayerKind]:
    told = tuple(dict.fromkeys(ONNX_LAYER.findall(metadata)))
    return told or nodes_of(name), kind_of(name, layer_type, told)


def _from_json(entry: str | Mapping[str, Any]) -> EngineLayer:
    if isinstance(entry, str):  # an engine that was built without detailed profiling
        return EngineLayer(entry, "", kind_of(entry), nodes_of(entry))
    name, layer_type = str(entry["Name"]), str(entry.get("LayerType", ""))
    nodes, kind = _nodes_and_kind(name, layer_type, str(entry.get("Metadata") or ""))
    inputs, outputs = (tuple(map(_tensor, entry.get(side) or ())) for side in ("Inputs", "Outputs"))
    return EngineLayer(name, layer_type, kind, nodes, inputs, outputs, str(entry.get("TacticName") or ""))


def _tensor(entry: Mapping[str, Any]) -> EngineTensor:
    layout = entry.get("Format") or entry.get("Format/Datatype") or ""
    return EngineTensor(str(entry["Name"]), tuple(entry["Dimensions"]), str(layout), str(entry.get("Datatype", "")))


def _from_match(match: re.Match[str]) -> EngineLayer:
    before, _, after = match["rest"].partition(", Outputs: [")
    outputs, _, after = after.partition("], TacticName: ")
    nodes, kind = _nodes_and_kind(match["name"], match["type"], after.partition("Metadata: ")[2])
    return EngineLayer(
        match["name"],
        match["type"],
        kind,
        nodes,
        _logged_tensors(before.partition(", Constants: [")[0]),
        _logged_tensors(outputs),
        after.partition(", StreamId: ")[0],
    )


def _logged_tensors(text: str) -> tuple[EngineTensor, ...]:
    return tuple(
        EngineTensor(name, tuple(int(size) for size in shape.split(",") if size), layout, datatype)
        for name, shape, datatype, layout in LOGGED_TENSOR.findall(text)
    )
