"""Learning from the dense network's answers."""

from __future__ import annotations

import torch

from hwprune.recovery.distillation import distillation_loss

STUDENT, TEACHER = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64).float()


def test_the_loss_is_the_sum_over_classes_written_out() -> None:
    p, q = (torch.softmax(logits / 3, dim=1) for logits in (TEACHER, STUDENT))
    expected = 9 * (p * (p.log() - q.log())).sum(dim=1).mean()

    torch.testing.assert_close(distillation_loss(STUDENT, TEACHER, temperature=3.0), expected)


def test_equal_answers_cost_nothing_and_shifting_logits_changes_nothing() -> None:
    loss = distillation_loss(TEACHER + 5, TEACHER, temperature=2.0)

    torch.testing.assert_close(loss, torch.tensor(0.0), atol=1e-6, rtol=0)


def test_at_high_temperature_the_gradient_is_the_difference_of_centred_logits() -> None:
    student = STUDENT.clone().requires_grad_()

    distillation_loss(student, TEACHER, temperature=1000.0).backward()

    difference = STUDENT - TEACHER
    expected = (difference - difference.mean(dim=1, keepdim=True)) / difference.numel()
    torch.testing.assert_close(student.grad, expected, atol=1e-4, rtol=1e-2)
