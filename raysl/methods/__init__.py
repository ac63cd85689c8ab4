"""Every method by name. Adding one is a file beside its paper and a line here."""

from raysl.methods.alignment_uniformity import AlignmentUniformity
from raysl.methods.barlow_twins import BarlowTwins
from raysl.methods.beit import BEiT
from raysl.methods.byol import BYOL
from raysl.methods.colorization import Colorization
from raysl.methods.deepcluster import DeepCluster
from raysl.methods.deepclusterv2 import DeepClusterV2
from raysl.methods.denoising import Denoising
from raysl.methods.dino import DINO
from raysl.methods.dinov2 import DINOv2
from raysl.methods.ijepa import IJEPA
from raysl.methods.label_augmentation import LabelAugmentation
from raysl.methods.mae import MAE
from raysl.methods.method import Batch, Method, MethodConfig
from raysl.methods.moco import MoCo
from raysl.methods.mocov3 import MoCoV3
from raysl.methods.npid import NPID
from raysl.methods.pirl import PIRL
from raysl.methods.pretrained import Pretrained
from raysl.methods.random import RandomEncoder
from raysl.methods.ressl import ReSSL
from raysl.methods.rotation import Rotation
from raysl.methods.sela import SeLa
from raysl.methods.simclr import SimCLR
from raysl.methods.simsiam import SimSiam
from raysl.methods.spark import SparK
from raysl.methods.super_resolution import SuperResolution
from raysl.methods.supervised import Supervised
from raysl.methods.supervised_source import SupervisedSource
from raysl.methods.swav import SwAV
from raysl.methods.vicreg import VICReg

METHODS: dict[str, type[Method]] = {
    "rotation": Rotation,
    "colorization": Colorization,
    "super_resolution": SuperResolution,
    "denoising": Denoising,
    "mae": MAE,
    "spark": SparK,
    "beit": BEiT,
    "ijepa": IJEPA,
    "npid": NPID,
    "pirl": PIRL,
    "simclr": SimCLR,
    "alignment_uniformity": AlignmentUniformity,
    "moco": MoCo,
    "mocov3": MoCoV3,
    "ressl": ReSSL,
    "barlow_twins": BarlowTwins,
    "vicreg": VICReg,
    "byol": BYOL,
    "simsiam": SimSiam,
    "dino": DINO,
    "dinov2": DINOv2,
    "deepcluster": DeepCluster,
    "deepclusterv2": DeepClusterV2,
    "sela": SeLa,
    "swav": SwAV,
    "scratch": Supervised,
    "label_augmentation": LabelAugmentation,
    "random": RandomEncoder,
    "supervised_source": SupervisedSource,
    "pretrained": Pretrained,
}

__all__ = ["METHODS", "Batch", "Method", "MethodConfig"]
