"""The networks of the zoo: names by family, built with random weights, and set so that signals reach the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn

Source = Literal["torchvision", "detection", "segmentation", "video", "ultralytics", "timm"]

DETECTION: Final = (
    "retinanet_resnet50_fpn",
    "fcos_resnet50_fpn",
    "fasterrcnn_resnet50_fpn",
    "maskrcnn_resnet50_fpn",
    "keypointrcnn_resnet50_fpn",
    "ssd300_vgg16",
    "ssdlite320_mobilenet_v3_large",
)
SEGMENTATION: Final = (
    "deeplabv3_resnet50",
    "deeplabv3_mobilenet_v3_large",
    "fcn_resnet50",
    "lraspp_mobilenet_v3_large",
)
VIDEO: Final = ("r3d_18", "r2plus1d_18")
ULTRALYTICS: Final = ("yolov5n", "yolov8n", "yolo11n")

TIMM: Final = {
    "beit": ("beit_base_patch16_224",),
    "convmixer": ("convmixer_768_32",),
    "coatnet": ("coatnet_0_rw_224", "coatnet_nano_rw_224"),
    "convnext": ("convnext_atto", "convnext_tiny"),
    "convnextv2": ("convnextv2_atto", "convnextv2_tiny"),
    "csatv2": ("csatv2",),
    "cspnet": ("cspresnet50", "cspresnext50", "cspdarknet53", "cs3darknet_m"),
    "darknet": ("darknet53",),
    "deit": ("deit_tiny_patch16_224", "deit3_small_patch16_224"),
    "densenet": ("densenet121",),
    "dla": ("dla34", "dla60_res2net"),
    "dpn": ("dpn68",),
    "ecaresnet": ("ecaresnet50d",),
    "edgenext": ("edgenext_small",),
    "efficientformer": ("efficientformer_l1", "efficientformerv2_s0"),
    "efficientnet": ("efficientnet_b0", "efficientnet_lite0", "tf_efficientnet_b0"),
    "efficientnetv2": ("efficientnetv2_s", "efficientnetv2_rw_t"),
    "efficientvit": ("efficientvit_b0", "efficientvit_m0"),
    "fastvit": ("fastvit_t8", "fastvit_sa12"),
    "fbnet": ("fbnetc_100", "fbnetv3_b"),
    "gcresnet": ("gcresnet50t", "gcresnext26ts"),
    "gernet": ("gernet_s",),
    "ghostnet": ("ghostnet_100", "ghostnetv2_100", "ghostnetv3_100"),
    "hardcorenas": ("hardcorenas_a",),
    "hgnet": ("hgnetv2_b0",),
    "hrnet": ("hrnet_w18",),
    "inception": ("inception_v3", "inception_v4"),
    "inception_next": ("inception_next_tiny",),
    "inception_resnet": ("inception_resnet_v2",),
    "lcnet": ("lcnet_100",),
    "levit": ("levit_128", "levit_conv_128"),
    "mambaout": ("mambaout_femto",),
    "maxvit": ("maxvit_tiny_rw_224",),
    "maxxvit": ("maxxvit_rmlp_nano_rw_256",),
    "metaformer": ("convformer_s18", "caformer_s18"),
    "mixer": ("mixer_s16_224", "resmlp_12_224"),
    "mixnet": ("mixnet_s",),
    "mnasnet": ("mnasnet_100", "semnasnet_100", "spnasnet_100"),
    "mobilenetv2": ("mobilenetv2_100",),
    "mobilenetv3": ("mobilenetv3_large_100",),
    "mobilenetv4": ("mobilenetv4_conv_small", "mobilenetv4_hybrid_medium"),
    "mobileone": ("mobileone_s0",),
    "mobilevit": ("mobilevit_s", "mobilevitv2_100"),
    "nasnet": ("nasnetalarge",),
    "nfnet": ("nfnet_f0", "eca_nfnet_l0", "nf_resnet50"),
    "pit": ("pit_ti_224",),
    "pnasnet": ("pnasnet5large",),
    "poolformer": ("poolformer_s12", "poolformerv2_s12"),
    "pvt": ("pvt_v2_b0",),
    "rdnet": ("rdnet_tiny",),
    "regnetx": ("regnetx_016",),
    "regnety": ("regnety_016",),
    "regnetz": ("regnetz_b16", "regnetz_d8"),
    "repghost": ("repghostnet_100",),
    "repvgg": ("repvgg_a0",),
    "repvit": ("repvit_m1",),
    "res2net": ("res2net50_26w_4s",),
    "resnest": ("resnest50d",),
    "resnet": ("resnet50",),
    "resnetv2": ("resnetv2_50", "resnetv2_50x1_bit"),
    "resnext": ("resnext50_32x4d",),
    "rexnet": ("rexnet_100", "rexnetr_100"),
    "selecsls": ("selecsls42b",),
    "seresnet": ("seresnet50",),
    "skresnet": ("skresnet50",),
    "starnet": ("starnet_s1",),
    "swin": ("swin_tiny_patch4_window7_224",),
    "swinv2": ("swinv2_tiny_window8_256", "swinv2_cr_tiny_ns_224"),
    "tinynet": ("tinynet_a",),
    "tresnet": ("tresnet_m",),
    "twins": ("twins_svt_small",),
    "vgg": ("vgg16_bn",),
    "visformer": ("visformer_tiny",),
    "vit": ("vit_tiny_patch16_224", "vit_small_patch16_224"),
    "vovnet": ("ese_vovnet39b",),
    "xception": ("legacy_xception", "xception41"),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One network of the zoo: where it comes from, its family there ("" outside timm) and its name."""

    source: Source
    family: str
    name: str

    @property
    def key(self) -> str:
        """What the records and ``--only`` call it, such as "timm:dla34"."""
        return f"{self.source}:{self.name}"


def entries() -> list[Entry]:
    """Every network of the zoo, in the order in which they run."""
    import torchvision

    named: list[tuple[Source, tuple[str, ...]]] = [
        ("torchvision", tuple(torchvision.models.list_models(module=torchvision.models))),
        ("detection", DETECTION),
        ("segmentation", SEGMENTATION),
        ("video", VIDEO),
        ("ultralytics", ULTRALYTICS),
    ]
    plain = [Entry(source, "", name) for source, names in named for name in names]
    return plain + [Entry("timm", family, name) for family, names in TIMM.items() for name in names]


def build(entry: Entry, **options: Any) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The network in eval mode with seeded random weights, and example inputs of its own size.

    Detectors and segmentation networks, which take any size, get 320 x 320 pixels, and rescale no image.
    """
    torch.manual_seed(0)
    match entry.source:
        case "timm":
            model, shape = _timm(entry.name, **options)
        case "ultralytics":
            model, shape = _ultralytics(entry.name), (3, 640, 640)
        case source:
            model, shape = _torchvision(source, entry.name, **options)
    return model.eval(), (torch.randn(1, *shape),)


def _torchvision(source: Source, name: str, **options: Any) -> tuple[nn.Module, tuple[int, ...]]:
    import torchvision

    shape: tuple[int, ...] = (3, 224, 224)
    if source in ("detection", "segmentation"):
        options |= {"weights_backbone": None}
        shape = (3, 320, 320)
    if source == "detection" and not name.startswith("ssd"):
        options |= {"min_size": 320, "max_size": 320}
    if name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": False}
    if name == "inception_v3":
        shape = (3, 299, 299)
    elif name == "ssd300_vgg16":
        shape = (3, 300, 300)
    elif source == "video":
        shape = (3, 16, 112, 112)
    elif source == "torchvision":
        shape = _size_of_weights(name)
    return torchvision.models.get_model(name, weights=None, **options), shape


def _size_of_weights(name: str) -> tuple[int, ...]:
    """The crop that a classifier's published weights were made for, in eval mode."""
    import torchvision

    if name.startswith(("vit", "regnet")):
        return (3, 224, 224)  # what the network is built for; some of the weights are for other sizes
    weights = torchvision.models.get_model_weights(name)
    crop = next(iter(weights)).transforms().crop_size
    return (3, crop[0], crop[0])


def _timm(name: str, **options: Any) -> tuple[nn.Module, tuple[int, ...]]:
    import timm

    model = timm.create_model(name, pretrained=False, **options)
    return model, tuple(model.default_cfg["input_size"])


def _ultralytics(name: str) -> nn.Module:
    from ultralytics.nn.tasks import DetectionModel

    model: Any = DetectionModel(f"{name}.yaml", verbose=False)
    model.model[-1].export = True  # the boxes and scores alone, as it is deployed, and not the feature maps as well
    found: nn.Module = model
    return found


def awake(model: nn.Module, inputs: tuple[Tensor, ...], *, seed: int = 0) -> None:
    """Set what initialisation leaves constant, then batch statistics from random data, in place.

    Zeros (the last layer of a residual branch or of the network, layer scales of 1e-6, biases) let no signal through,
    and the outputs of a deep network with untouched statistics vanish: two networks that give 0 are equal and prove
    nothing.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.numel() > 1 and bool((parameter == parameter.flatten()[0]).all()):
                _vary(parameter, generator)
        norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        for norm in norms:
            norm.momentum = None  # a plain mean over the batches seen
            norm.train()
        if norms:
            model(*[torch.randn((2, *x.shape[1:]), generator=generator) for x in inputs])
        for norm in norms:
            norm.momentum = 0.1
            norm.eval()


def _vary(parameter: Tensor, generator: torch.Generator) -> None:
    """Random values for a constant tensor: small ones for zeros, else around 1 or around its own value."""
    value = float(parameter.flatten()[0])
    if value == 0:
        fan_in = parameter[0].numel() if parameter.dim() > 1 else 100
        parameter.normal_(0.0, fan_in**-0.5, generator=generator)
    else:
        scale = value if abs(value) > 0.1 else 1.0
        parameter.uniform_(0.5, 1.5, generator=generator).mul_(scale)
