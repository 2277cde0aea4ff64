"""Learning from the dense network's answers."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def distillation_loss(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """Kullback-Leibler divergence of the student's softened answers from the teacher's, times temperature².

    Shapes: logits (n, classes) twice -> scalar, mean over the images, in nats. The factor keeps the gradient's size
    the same at every temperature. Source: Hinton et al. 2015, arXiv:1503.02531, section 2.
    """
    log_student = functional.log_softmax(student.float() / temperature, dim=1)
    log_teacher = functional.log_softmax(teacher.float() / temperature, dim=1)
    return temperature**2 * functional.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
