"""Exact search: the best widths within a time, and a proof of how far from the best they can be.

The problem becomes a mixed-integer linear program (`hwprune.search.program`), solved by HiGHS (Huangfu and Hall 2018)
from the greedy solution. Where the program takes an operator for cheaper than it is (concatenations), what it missed
at its solution is held back of the budget and it is solved again; the bound is that of the first program, which holds
for every solution.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Final

import highspy
import numpy as np

from hwprune.search.greedy import greedy
from hwprune.search.problem import Problem, Solution, Widths, solved
from hwprune.search.program import Floats, Matrix, Program

ATTEMPTS: Final = 6  # programs solved
TOLERANCE: Final = 1e-9  # of the solver, on rows and integers


def exact(problem: Problem, *, seconds: float = 60.0, gap: float = 1e-3, start: Widths | None = None) -> Solution:
    """The best widths that are found in ``seconds``, never worse than ``start``, and the bound that is proven.

    Args:
        problem: as for `greedy`.
        seconds: wall time of the solver; what it has by then is returned.
        gap: share of the importance lost at which the solver stops.
        start: widths to begin with; None takes the greedy solution.

    Returns:
        a solution whose ``bound`` no widths within the budgets can lose less than. It is None where nothing was proven:
        no time, or an operator of three groups or more that does not depend on sums of their widths.
    """
    deadline = time.monotonic() + seconds
    best = greedy(problem) if start is None else solved(problem, start)
    program = Program(problem, best.widths)
    reserve = np.zeros(len(program.rows))
    bound: float | None = None
    for attempt in range(ATTEMPTS if program.column else 0):
        left = deadline - time.monotonic()
        if left <= 0:
            break
        widths, proven = _solve(program, reserve, best if best.feasible else None, seconds=left, gap=gap)
        if attempt == 0 and not program.straightened:
            bound = proven
        if widths is None:
            break
        there = solved(problem, widths)
        if there.feasible and (not best.feasible or there.lost < best.lost):
            best = there
        more = _reserve(program, reserve, widths)
        if there.feasible and np.allclose(more, reserve, rtol=0, atol=TOLERANCE * _scales(program)):
            break
        reserve = more
        program.around = widths
    return replace(best, bound=None if bound is None else max(0.0, min(bound, best.lost)))


def _reserve(program: Program, reserve: Floats, widths: Widths) -> Floats:
    """What to hold back of each row next: all that was missed, and what the solver's tolerance let through."""
    missed = program.missed(widths)
    over = np.array([row.spent(widths) - row.limit for row in program.rows])
    through = np.where((over > 0) & (missed <= reserve), over + TOLERANCE * _scales(program), 0.0)
    found: Floats = np.maximum(reserve, missed) + through
    return found


def _scales(program: Program) -> Floats:
    return np.array([row.scale for row in program.rows])


def _solve(
    program: Program, reserve: Floats, start: Solution | None, *, seconds: float, gap: float
) -> tuple[dict[str, int] | None, float | None]:
    """Widths that the solver found, and the least that any can lose; None for what it does not have."""
    matrix = program.matrix(reserve)
    solver = highspy.Highs()
    for name, value in {
        "output_flag": False,
        "time_limit": seconds,
        "mip_rel_gap": gap,
        "mip_abs_gap": 0.0,
        "mip_feasibility_tolerance": TOLERANCE,
        "primal_feasibility_tolerance": TOLERANCE,
    }.items():
        solver.setOptionValue(name, value)
    worth = max(float(program.objective.max(initial=0.0)), 1e-300)
    solver.passModel(_lp(matrix, program.objective / worth))
    if start is not None:
        values = np.zeros(len(program.column))
        values[[program.column[group.name, start.widths[group.name]] for group in program.groups]] = 1.0
        solver.setSolution(len(values), np.arange(len(values), dtype=np.int32), values)
    solver.run()
    info = solver.getInfo()
    bound = info.mip_dual_bound * worth if np.isfinite(info.mip_dual_bound) else None
    if info.primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
        return None, bound
    values = np.asarray(solver.getSolution().col_value)
    found = {name: choices[0] for name, choices in program.choices.items()}
    for group in program.groups:
        places = [program.column[group.name, width] for width in group.choices]
        found[group.name] = group.choices[int(np.argmax(values[places]))]
    return found, bound


def _lp(matrix: Matrix, objective: Floats) -> highspy.HighsLp:
    coefficients, kinds = matrix.coefficients, highspy.HighsVarType
    more = matrix.columns - len(objective)
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = matrix.columns, len(matrix.bounds)
    lp.col_cost_ = np.concatenate([objective, np.zeros(more)])
    lp.col_lower_, lp.col_upper_ = np.zeros(matrix.columns), np.ones(matrix.columns)
    lp.row_lower_, lp.row_upper_ = (np.array(side) for side in zip(*matrix.bounds, strict=True))
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_, lp.a_matrix_.index_ = coefficients.indptr, coefficients.indices
    lp.a_matrix_.value_ = coefficients.data
    lp.integrality_ = [kinds.kInteger] * len(objective) + [kinds.kContinuous] * more
    return lp
