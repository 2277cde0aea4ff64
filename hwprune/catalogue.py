"""The pruning methods of the field that ship, with the paper of each and what differs from it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

Kind = Literal["importance", "regularizer", "allocation", "inheritance", "transform"]


@dataclass(frozen=True, slots=True)
class Method:
    """A method that ships.

    Attributes:
        name: that users choose it by; "-style" at its end says that the paper's formulas are not all known.
        kind: what it decides.
        place: of its class, as package.module:name.
        paper: who published it, where, when.
        does: in one line.
        differs: from the paper, or what was reconstructed; "" where it is as published, but for coupled channels.
    """

    name: str
    kind: Kind
    place: str
    paper: str
    does: str
    differs: str = ""

    @property
    def factory(self) -> Callable[..., Any]:
        """Its class."""
        module, _, name = self.place.partition(":")
        found: Callable[..., Any] = getattr(importlib.import_module(module), name)
        return found


_IMPORTANCE = (
    Method(
        "obs",
        "importance",
        "hwprune.importance.obs:OptimalBrainSurgeon",
        "after Hassibi & Stork 1992; Frantar & Alistarh 2022",
        "change of the network's outputs once its readers have taken over what a channel told",
        "for coupled channels, and with every group's scale measured",
    ),
    Method(
        "fisher",
        "importance",
        "hwprune.importance.fisher:Fisher",
        "Liu et al., ICML 2021 (Group Fisher Pruning)",
        "squared gradient of the loss with respect to a mask on all readers of a channel",
    ),
    Method(
        "taylor",
        "importance",
        "hwprune.importance.taylor:Taylor",
        "Molchanov et al., CVPR 2019",
        "squared first-order loss change without all parameters that make a channel",
    ),
    Method(
        "magnitude",
        "importance",
        "hwprune.importance.magnitude:Magnitude",
        "Li et al., ICLR 2017",
        "L2 norm of the filters that make a channel, over its group's mean",
        "the L2 norm in place of L1",
    ),
    Method(
        "bn-scale",
        "importance",
        "hwprune.importance.bn_scale:BnScale",
        "Liu et al., ICCV 2017 (Network Slimming)",
        "mean size of the norm scales that a channel goes through",
    ),
    Method(
        "tfo",
        "importance",
        "hwprune.importance.tfo:ScaleTaylor",
        "Molchanov et al., CVPR 2019",
        "squared first-order loss change without a norm's scale",
        "without the norm's shift, as the code of OrthoReg has it",
    ),
    Method(
        "orthoreg",
        "importance",
        "hwprune.importance.orthoreg:FilterTaylor",
        "Lubana et al. 2020 (OrthoReg)",
        "squared first-order loss change without a filter, added up over a channel's filters",
    ),
    Method(
        "fpgm",
        "importance",
        "hwprune.importance.fpgm:Fpgm",
        "He et al., CVPR 2019",
        "distance from the other filters of the group, over the group's mean",
        "one ranking over all layers in place of the same share of each",
    ),
    Method(
        "hessian",
        "importance",
        "hwprune.importance.hessian:Hessian",
        "LeCun et al. 1990; Yu et al., WACV 2022 (HAP)",
        "second-order loss change without a channel's filters, by Hutchinson's estimate",
        "the quadratic form in place of mean diagonal times length",
    ),
    Method(
        "greg2",
        "importance",
        "hwprune.importance.greg2:Greg2Response",
        "Wang et al., ICLR 2021 (GReg)",
        "size of the filters after a training under a penalty that grows on all alike",
        "one ranking over all layers; the penalty follows from the steps; batch norm keeps its statistics",
    ),
    Method(
        "scop",
        "importance",
        "hwprune.importance.scop:Scop",
        "Tang et al., NeurIPS 2020 (SCOP)",
        "how much gates prefer a channel's features to those of knockoff images",
        "coupled channels share a gate; knockoffs are Gaussian images, or your own generator's",
    ),
    Method(
        "cpmc-style",
        "importance",
        "hwprune.importance.cpmc:CpmcStyle",
        "Yan et al., IJCNN 2021 (CPMC)",
        "weights that die with a channel, over its MACs, parameters and measured latency",
        "norm, normaliser and combination are reconstructed; latency is added",
    ),
)
_REGULARIZERS = (
    Method(
        "orthoreg",
        "regularizer",
        "hwprune.regularization.orthonormal:OrthoReg",
        "Lubana et al. 2020 (OrthoReg)",
        "before the search: filters of a layer are drawn to be orthonormal",
        "depthwise convolutions are left out",
    ),
    Method(
        "slimming",
        "regularizer",
        "hwprune.regularization.slimming:Slimming",
        "Liu et al., ICCV 2017 (Network Slimming)",
        "before the search: an L1 penalty on the scales of norms",
    ),
    Method(
        "greg1",
        "regularizer",
        "hwprune.regularization.greg:Greg1",
        "Wang et al., ICLR 2021 (GReg)",
        "a penalty on what goes grows in equal steps",
        "norms fade with their filters; no layer stops before the end",
    ),
    Method(
        "greg2",
        "regularizer",
        "hwprune.regularization.greg:Greg2",
        "Wang et al., ICLR 2021 (GReg)",
        "all are penalised alike first, and those that shrink most go",
        "norms fade with their filters; no layer stops before the end",
    ),
    Method(
        "increg",
        "regularizer",
        "hwprune.regularization.increg:IncReg",
        "Wang et al. 2018, 2019 (IncReg)",
        "a channel's penalty rises or falls with its rank by size, step by step",
        "widths come from the search, not from accuracy on the way",
    ),
    Method(
        "sfp",
        "regularizer",
        "hwprune.regularization.soft_mask:sfp",
        "He et al., IJCAI 2018 (SFP)",
        "the smallest filters are zeroed again and again, and may grow back; too large without a long training",
        "widths come from the search; a constant that is left moves to the readers' biases",
    ),
    Method(
        "asfp",
        "regularizer",
        "hwprune.regularization.soft_mask:asfp",
        "He et al., IEEE T. Cybernetics 2019 (ASFP)",
        "the same, with a share that grows",
        "as with sfp",
    ),
    Method(
        "srfp",
        "regularizer",
        "hwprune.regularization.soft_mask:srfp",
        "Cai et al., ICPR 2020 (SRFP)",
        "the smallest filters shrink by a falling factor in place of being zeroed",
        "as with sfp; how the factor falls is reconstructed",
    ),
    Method(
        "asrfp",
        "regularizer",
        "hwprune.regularization.soft_mask:asrfp",
        "Cai et al., ICPR 2020 (ASRFP)",
        "the same, with a share that grows",
        "as with sfp; how the factor falls is reconstructed",
    ),
)
_ALLOCATIONS = (
    Method(
        "adapruner-style",
        "allocation",
        "hwprune.allocation.adapruner:AdaPrunerStyle",
        "Liu et al. 2021 (AdaPruner)",
        "shares in proportion to the mean scale of norms, scaled to the measured budget",
        "how a scale becomes a width is reconstructed",
    ),
    Method(
        "epruner",
        "allocation",
        "hwprune.allocation.epruner:EPruner",
        "Lin et al., IEEE TNNLS 2022 (EPruner)",
        "as many filters as affinity propagation finds exemplars, and just those",
        "beta is bisected to the budget; norms are inherited",
    ),
    Method(
        "ddpnas",
        "allocation",
        "hwprune.allocation.ddpnas:Ddpnas",
        "Zheng et al. 2019 (DDPNAS)",
        "a distribution over ratios, pruned by the accuracy of sampled networks",
        "weights are inherited, not trained on the way",
    ),
    Method(
        "genetic",
        "allocation",
        "hwprune.allocation.genetic:Genetic",
        "Hu et al. 2018",
        "widths by sensitivity, channel subsets by a genetic algorithm",
        "widths and fitness are reconstructed",
    ),
    Method(
        "graph-style",
        "allocation",
        "hwprune.allocation.graph:GraphStyle",
        "after Zhang et al. 2022 (Graph Pruning)",
        "a graph network over the channel groups proposes ratios",
        "reconstructed from one idea of the paper's: see its docstring",
    ),
)
_INHERITANCES = (
    Method(
        "adaptive",
        "inheritance",
        "hwprune.inheritance.adaptive:Adaptive",
        "Liu et al. 2021 (AdaPruner)",
        "of several criteria the one whose choice is most accurate on held-back training data",
        "the list of criteria is reconstructed",
    ),
    Method(
        "exemplar",
        "inheritance",
        "hwprune.inheritance.exemplar:Exemplar",
        "Lin et al., IEEE TNNLS 2022 (EPruner)",
        "exemplars of the dense network's filters",
        "for widths that are known; norms are inherited",
    ),
)
_TRANSFORMS = (
    Method(
        "filter-group-approximation",
        "transform",
        "hwprune.transform.filter_group:FilterGroups",
        "Peng et al., ECCV 2018 (FGA)",
        "a convolution as a grouped and a pointwise one, where that is measured to be faster",
        "fine-tuning in place of corrections by feature maps; rewritten layers are chosen by measured latency",
    ),
)
METHODS: Final[Mapping[Kind, Mapping[str, Method]]] = {
    "importance": {method.name: method for method in _IMPORTANCE},
    "regularizer": {method.name: method for method in _REGULARIZERS},
    "allocation": {method.name: method for method in _ALLOCATIONS},
    "inheritance": {method.name: method for method in _INHERITANCES},
    "transform": {method.name: method for method in _TRANSFORMS},
}
