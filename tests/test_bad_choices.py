"""Bad choices are refused before any work is lost; the message names argument, input, need and remedy.

Rows as in ``test_bad_input.py``.
"""

import numpy as np
import pytest
import torch
from refusals import check, flat, told, untrained
from torch import nn

import nbsvd
from nbsvd import Integral, Matrix, Nesting, Problem, Schrodinger, eigsh, problems, solve, svds
from nbsvd._device import pick_device
from nbsvd.exact import Brownian
from nbsvd.functions import MLP, BoxFactor, DecayFactor, Features, GaussianFactor
from nbsvd.measures import Empirical, Gaussian, Lebesgue, Mixture, Radial, TruncatedGaussian, Uniform
from nbsvd.objectives import choose, lora_evd, omm
from nbsvd.training import Settings, projection
from nbsvd.training.choices import check_choices

pytestmark = pytest.mark.usefixtures("unchecked", "no_work")


@pytest.fixture(autouse=True)
def no_projection(monkeypatch):
    """Fail when variable projection begins."""
    monkeypatch.setattr(projection, "project", lambda *a, **o: pytest.fail("projection began"))


def coulomb(x):
    return -1 / x.norm(dim=1)


EYE = torch.eye(4)
F = torch.ones(5, 2)
PLANE = Lebesgue(Radial(2, scale=1.0))
OSCILLATOR = Schrodinger(lambda x: (x**2).sum(1))
KERNEL = Integral(lambda x, y: torch.exp(-((x - y.t()) ** 2)), Gaussian(1))
NOT_PSD = Integral(lambda x, y: x @ y.t() - 0.5, Gaussian(1))
J2 = Nesting.joint(2)
RESULT = untrained()


class OneWay(nbsvd.operators.Operator):
    """A derivative: unbounded, and not self-adjoint."""

    local, bounded = True, False

    @property
    def adjoint(self):
        return self


ESTIMATORS = {
    "u on one point": (
        lambda: lora_evd(F[:1], F[:1], J2, moment="u"),
        "moment",
        "'u' with a batch of 1",
        "two or more",
    ),
    "split on one point": (
        lambda: omm(F[:1], F[:1], J2, moment="split"),
        "moment",
        "'split' with a batch of 1",
        "two",
    ),
    "u in a run of one": (
        lambda: solve("brownian", 1, kind="iid", batch_size=1),
        "moment",
        "batch of 1",
        "two or more",
        "a larger batch",
    ),
    "u on quadrature": (
        lambda: solve("hydrogen2d", 1, moment="u"),
        "moment",
        "'u' on quadrature",
        "'plain'",
        "moment='plain'",
    ),
    "u on a kernel's quadrature": (
        lambda: solve("brownian", 1, moment="u", kind="quadrature"),
        "moment",
        "'u' on quadrature",
        "'plain'",
    ),
    "split on Sobol": (
        lambda: solve("brownian", 1, moment="split", kind="sobol"),
        "moment",
        "'split' on sobol",
        "'plain'",
    ),
    "choose": (lambda: choose("quadrature", "u"), "moment", "'u' on quadrature", "'plain'"),
    "nodes of data": (
        lambda: solve(Problem(Integral(lambda x, y: x @ y.t(), Empirical(F))), 1, kind="sobol"),
        "kind",
        "'sobol'",
        "'iid', 'quadrature'",
    ),
}

UNBOUNDED = {
    "svds": (
        lambda: svds(OSCILLATOR, 1, measure=PLANE),
        "operator",
        "Schrodinger, which is unbounded",
        "bounded",
        "eigsh",
    ),
    "svds, scaled": (lambda: svds(2 * OSCILLATOR, 1, measure=PLANE), "operator", "unbounded", "bounded"),
    "solve": (
        lambda: solve(Problem(OneWay(), PLANE), 1),
        "operator",
        "OneWay, which is unbounded",
        "bounded",
    ),
    "omm": (
        lambda: solve("hydrogen2d", 1, objective="omm"),
        "objective",
        "unbounded below",
        "no negative values",
    ),
    "omm, negative kernel": (
        lambda: eigsh(NOT_PSD, 1, objective="omm"),
        "objective",
        "values down to -0.",
        "no negative",
    ),
}

NAMES = {
    "problem": (
        lambda: solve("hydrogen4d"),
        "problem",
        "'hydrogen4d'",
        "'volterra'",
        "Did you mean 'hydrogen",
    ),
    "problem, get": (lambda: problems.get("brownan"), "problem", "'brownan'", "", "Did you mean 'brownian'?"),
    "method": (lambda: solve("brownian", method="sdg"), "method", "'sdg'", "'sgd'", "Did you mean 'sgd'?"),
    "objective": (
        lambda: solve("brownian", objective="lara"),
        "objective",
        "'lara'",
        "'omm'",
        "Did you mean 'lora'?",
    ),
    "nesting": (
        lambda: solve("brownian", nesting="jiont"),
        "nesting",
        "'jiont'",
        "'none'",
        "Did you mean 'joint'?",
    ),
    "nesting of another length": (
        lambda: solve("brownian", k=2, nesting=nbsvd.Nesting.joint(3)),
        "nesting",
        "a nesting of 3 components",
        "one of k = 2",
        "Nesting.joint(k, weights)",
    ),
    "optimizer": (
        lambda: solve("brownian", optimizer="adm"),
        "optimizer",
        "'adm'",
        "'soap'",
        "Did you mean 'adam'?",
    ),
    "warm start": (lambda: solve("brownian", warm_start="rits"), "warm_start", "'rits'", "'ritz'", "'ritz'?"),
    "preset": (
        lambda: solve("brownian", preset="papr"),
        "preset",
        "'papr'",
        "'paper'",
        "Did you mean 'paper'?",
    ),
    "setting": (
        lambda: solve("brownian", optimiser="adam"),
        "settings",
        "'optimiser'",
        "'lr'",
        "'optimizer'?",
    ),
    "device": (lambda: solve("brownian", device="cuba"), "device", "'cuba'", "'cpu'", "Did you mean 'cuda'?"),
    "device, number": (lambda: solve("brownian", device="cpu:x"), "device", "'cpu:x'", "a name such as"),
    "device, no number": (lambda: solve("brownian", device="cuda:"), "device", "'cuda:'", "a name", "colon"),
    "device, signed": (lambda: solve("brownian", device="cpu:-1"), "device", "'cpu:-1'", "a name such as"),
    "device, auto": (lambda: solve("brownian", device="auto:1"), "device", "'auto:1'", "a name such as"),
    "device of a matrix": (lambda: svds(EYE, 1, device="cuba"), "device", "'cuba'", "'cpu'", "'cuda'?"),
    "device, absent": (lambda: solve("brownian", device="cpu:5"), "device", "'cpu:5'", "of this machine"),
    "kind": (lambda: solve("brownian", kind="sobel"), "kind", "'sobel'", "'sobol'", "Did you mean 'sobol'?"),
    "moment": (lambda: lora_evd(F, F, J2, moment="plian"), "moment", "'plian'", "'plain'", "'plain'?"),
    "network option": (
        lambda: solve("brownian", network={"width": 3}),
        "network",
        "'width'",
        "'widths'",
        "'widths'?",
    ),
    "activation": (
        lambda: solve("brownian", network={"activation": "tannh"}),
        "activation",
        "'tannh'",
        "'tanh'",
        "'tanh'?",
    ),
    "domain": (lambda: problems.hydrogen2d("bx"), "domain", "'bx'", "'plane', 'box'", "Did you mean 'box'?"),
    "option": (
        lambda: problems.get("hydrogen2d", domaine="box"),
        "options",
        "'domaine'",
        "'domain'",
        "'domain'?",
    ),
    "no options": (lambda: problems.get("volterra", side=1), "options", "side", "none: problems.volterra"),
    "plot": (lambda: RESULT.plot("ladders"), "kind", "'ladders'", "'overview'", "Did you mean 'ladder'?"),
}

NUMBERS = {
    "seconds = 0": (lambda: solve("brownian", seconds=0), "seconds", "0", "a positive number", "steps=0"),
    "seconds < 0": (lambda: solve("brownian", seconds=-1.0), "seconds", "-1.0", "a positive number"),
    "seconds NaN": (lambda: solve("brownian", seconds=float("nan")), "seconds", "nan", "a positive number"),
    "seconds, words": (lambda: solve("brownian", seconds="60"), "seconds", "'60'", "a positive number"),
    "steps < 0": (lambda: solve("brownian", steps=-1), "steps", "-1", "an integer, at least 0"),
    "steps = 1.5": (lambda: solve("brownian", steps=1.5), "steps", "1.5", "an integer"),
    "steps = True": (lambda: solve("brownian", steps=True), "steps", "True", "an integer", "steps=0"),
    "lr = True": (lambda: solve("brownian", lr=True), "lr", "True", "a positive learning rate", "lr=1e-3"),
    "seed = True": (lambda: solve("brownian", seed=True), "seed", "True", "an integer", "seed=0"),
    "batch": (lambda: solve("brownian", batch_size=0), "batch_size", "0", "at least 1"),
    "lr": (lambda: solve("brownian", lr=0.0), "lr", "0.0", "a positive learning rate"),
    "lr infinite": (lambda: solve("brownian", lr=float("inf")), "lr", "inf", "a positive learning rate"),
    "ema": (lambda: solve("brownian", ema=1.0), "ema", "1.0", "below 1"),
    "warmup": (lambda: solve("brownian", warmup=-5), "warmup", "-5", "at least 0"),
    "report": (lambda: solve("brownian", report_every=0), "report_every", "0", "at least 1"),
    "no limit": (lambda: Settings(), "steps, seconds", "neither", "at least one"),
    "seed": (lambda: solve("brownian", seed="a"), "seed", "'a'", "an integer"),
    "dtype": (lambda: solve("brownian", dtype=torch.float16), "dtype", "float16", "float32 or torch.float64"),
    "k": (lambda: solve("brownian", 0), "k", "0", "at least 1"),
    "k above the reference": (
        lambda: solve(problems.hydrogen2d("box"), 1000),
        "k",
        "1000",
        "an integer from 1",
    ),
    "k above the width": (
        lambda: solve("brownian", 9, network={"widths": (3,)}),
        "k",
        "9 with",
        "at most",
        "wider",
    ),
    "side": (lambda: problems.infinite_well2d(-1.0), "side", "-1.0", "a positive length"),
    "frequencies": (lambda: problems.oscillator2d((1.0,)), "frequencies", "[1.0]", "two positive numbers"),
    "frequency": (lambda: problems.oscillator2d((1.0, 0.0)), "frequencies", "0.0", "above 0"),
    "center": (lambda: problems.oscillator2d(center=(1.0,)), "center", "1.0", "2 finite coordinates"),
    "length scale": (lambda: problems.gaussian_kernel(0.0), "length_scale", "0.0", "above 0"),
}

KINDS = {
    "problem": (lambda: solve(EYE), "problem", "Tensor", "a Problem", "Problem(operator, measure)"),
    "operator": (lambda: Problem(EYE), "operator", "Tensor", "an Operator"),
    "no measure": (lambda: Problem(OSCILLATOR), "measure", "NoneType", "a Measure", "Lebesgue(Radial"),
    "measure": (lambda: Problem(OSCILLATOR, 3), "measure", "int", "a Measure"),
    "exact": (lambda: Problem(KERNEL, exact=[1.0]), "exact", "list", "an Exact answer"),
    "exact, dimension": (lambda: Problem(OSCILLATOR, PLANE, exact=Brownian()), "exact", "1 dim", "one in 2"),
    "potential": (lambda: Schrodinger(3.0), "potential", "float", "a function"),
    "kernel": (lambda: Integral(3.0, Gaussian(1)), "kernel", "float", "a function"),
    "NaN kernel": (
        lambda: Integral(lambda x, y: x @ y.t() * torch.nan, Gaussian(1)),
        "kernel",
        "NaN",
        "finite",
    ),
    "complex kernel": (
        lambda: Integral(lambda x, y: x @ y.t() * 1j, Gaussian(1)),
        "kernel",
        "complex",
        "real",
    ),
    "NaN potential": (
        lambda: solve(Problem(Schrodinger(lambda x: x[:, 0].log()), PLANE), 1),
        "operator",
        "not finite where functions live",
        "finite",
        "Keep the domain",
    ),
    "network": (
        lambda: solve("brownian", network=3),
        "network",
        "int",
        "a dictionary of arguments, or a function",
    ),
    "a module itself": (
        lambda: solve("brownian", 1, network=nn.Linear(1, 1)),
        "network",
        "Linear",
        "a function",
        "lambda generator",
    ),
    "no module": (lambda: solve("brownian", 1, network=lambda g: 3), "network", "int", "an nn.Module"),
    "callback": (
        lambda: solve("brownian", callbacks=[3]),
        "callbacks",
        "3",
        "functions of the state of the run",
    ),
    "callback, bare": (
        lambda: solve("brownian", callbacks=print),
        "callbacks",
        "print",
        "a list of functions",
        "callbacks=[function]",
    ),
    "callbacks, none": (
        lambda: solve("brownian", callbacks=None),
        "callbacks",
        "None",
        "a list",
        "[function]",
    ),
    "callbacks, used up by one look": (
        lambda: solve("brownian", callbacks=iter([print])),
        "callbacks",
        "iterator",
        "a list",
        "[function]",
    ),
    "nesting": (lambda: lora_evd(F, F, "joint"), "nesting", "joint", "a Nesting", "Nesting('joint', 2)"),
}

WITH = {"method": "varpro", "progress": False}
LATTICE = [(0.0, 0.0), (3.0, 0.0)]

VARPRO = {
    "spectral": (
        lambda: solve("brownian", spectral="lorra", **WITH),
        "spectral",
        "'lorra'",
        "'log', 'lora', 'sum'",
        "Did you mean 'lora'?",
    ),
    "spectral without it": (
        lambda: solve("brownian", spectral="log"),
        "spectral",
        "'log', with method='sgd'",
        "only method='varpro'",
        "method='varpro'",
    ),
    "seconds": (lambda: solve("brownian", seconds=0, **WITH), "seconds", "0", "a positive number", "steps=0"),
    "seconds, infinite": (
        lambda: solve("brownian", seconds=float("inf"), **WITH),
        "seconds",
        "inf",
        "a positive number",
    ),
    "compile": (
        lambda: solve("brownian", compile=True, **WITH),
        "compile",
        "method='varpro'",
        "False",
        "Leave it out",
    ),
    "matrix": (
        lambda: eigsh(EYE, 1, **WITH),
        "problem",
        "a matrix, whose vectors are all head",
        "functions",
        "eigsh or svds",
    ),
    "matrix, svds": (lambda: svds(EYE, 1, **WITH), "problem", "a matrix", "functions", "method='sgd'"),
    "objective": (lambda: solve("brownian", objective="omm", **WITH), "objective", "'omm'", "'lora'"),
    "nesting": (
        lambda: solve("brownian", nesting="sequential", **WITH),
        "nesting",
        "'sequential', which has no objective",
        "'joint' or 'none'",
    ),
    "preset": (lambda: solve("brownian", preset="paper", **WITH), "preset", "'paper'", "none"),
    "warm start": (lambda: solve("brownian", warm_start=None, **WITH), "warm_start", "None", "'ritz'"),
    "dtype": (lambda: solve("brownian", dtype=torch.float32, **WITH), "dtype", "float32", "torch.float64"),
    "kind": (lambda: solve("brownian", kind="sobel", **WITH), "kind", "'sobel'", "'sobol'", "'sobol'?"),
    "kind that a measure has not": (
        lambda: solve(problems.oscillator([1.0] * 4), 1, kind="quadrature", **WITH),
        "kind",
        "'quadrature' for Lebesgue",
        "'iid', 'sobol'",
        "Leave kind out",
    ),
    "moment": (lambda: solve("brownian", moment="u", **WITH), "moment", "'u'", "none", "method='sgd'"),
    "optimizer": (lambda: solve("brownian", optimizer="adam", **WITH), "optimizer", "'adam'", "none"),
    "lr": (lambda: solve("brownian", lr=0.1, **WITH), "lr", "0.1", "none", "Leave it out"),
    "ema": (lambda: solve("brownian", ema=0.5, **WITH), "ema", "0.5", "none"),
    "warmup": (lambda: solve("brownian", warmup=5, **WITH), "warmup", "5", "none"),
    "report": (lambda: solve("brownian", report_every=5, **WITH), "report_every", "5", "none"),
    "disjoint": (
        lambda: solve("brownian", network={"disjoint": True}, **WITH),
        "network",
        "'disjoint': True",
        "one trunk",
        "Leave it out",
    ),
    "k above the trunk": (
        lambda: solve("hydrogen2d", 9, network={"widths": (32, 6)}, **WITH),
        "k",
        "9 with 7 functions to combine",
        "at most 7",
        "Widen the last hidden layer",
    ),
    "k above a trunk of one's own": (
        lambda: solve(
            "brownian", 5, network=lambda g: MLP(5, 1, widths=(3,), disjoint=False, generator=g), **WITH
        ),
        "k",
        "5 with 4",
        "at most 4",
        "wider network",
    ),
    "no basis": (
        lambda: solve("brownian", 1, network=lambda g: nn.Linear(1, 1), **WITH),
        "network",
        "Linear, which has no basis",
        "first_basis",
        "MLP",
    ),
    "no basis under an ansatz": (
        lambda: solve("infinite_well2d", 1, network=lambda g: nn.Linear(2, 1), **WITH),
        "network",
        "Linear, which has no basis",
        "first_basis",
    ),
}

SINGULAR = {
    "outside a box": (
        lambda: Problem(Schrodinger(coulomb, singular_points=LATTICE), Lebesgue(Uniform([-1] * 2, [1] * 2))),
        "singular_points",
        "[3.0, 0.0], outside the domain of Uniform",
        "where the measure has nodes",
        "wider corners",
    ),
    "outside a sum's": (
        lambda: Problem(
            OSCILLATOR + Schrodinger(coulomb, singular_points=LATTICE), Lebesgue(Uniform([-1] * 2, [1] * 2))
        ),
        "singular_points",
        "[3.0, 0.0]",
        "nodes",
    ),
    "outside a truncated law": (
        lambda: Problem(
            Schrodinger(coulomb, singular_points=[(0.0, 5.0)]),
            Lebesgue(TruncatedGaussian(2, scale=1.0, bound=4.0)),
        ),
        "singular_points",
        "[0.0, 5.0]",
        "nodes",
    ),
    "outside both parts": (
        lambda: Problem(
            Schrodinger(coulomb, singular_points=[(1.5, 0.0)]),
            Lebesgue(Mixture([Uniform([0.0, 0.0], [1.0, 1.0]), Uniform([2.0, 0.0], [3.0, 1.0])])),
        ),
        "singular_points",
        "[1.5, 0.0], outside the domain of Mixture",
        "nodes",
    ),
    "of another dimension": (
        lambda: Problem(Schrodinger(coulomb, singular_points=[(0.0, 0.0, 0.0)]), PLANE),
        "singular_points",
        "[[0.0, 0.0, 0.0]]",
        "2 finite coordinates",
        "[0.0, 0.0]",
    ),
    "not a number": (
        lambda: Problem(Schrodinger(coulomb, singular_points=[(0.0, float("nan"))]), PLANE),
        "singular_points",
        "nan",
        "2 finite coordinates",
    ),
}

LENGTHS = {
    f"{name} {value!r}": (lambda make=make, value=value: make(value), argument, str(value), "positive length")
    for name, make, argument in (
        ("Features", lambda s: Features(2, scales=[1.0, s]), "scales"),
        ("BoxFactor", BoxFactor, "half_width"),
        ("DecayFactor", DecayFactor, "length"),
        ("DecayFactor, smooth", lambda s: DecayFactor(1.0, smooth=s), "smooth"),
        ("GaussianFactor", GaussianFactor, "scale"),
        ("Radial", lambda s: Radial(2, scale=s), "scale"),
        ("Gaussian", lambda s: Gaussian(2, scale=s), "scale"),
        ("TruncatedGaussian", lambda s: TruncatedGaussian(2, scale=s, bound=1.0), "scale"),
        ("TruncatedGaussian, bound", lambda s: TruncatedGaussian(2, scale=1.0, bound=s), "bound"),
    )
    for value in (-1.0, 0.0, float("inf"), float("nan"))
} | {
    f"{name} 'a'": (lambda make=make: make("a"), argument, "'a'", "positive length")
    for name, make, argument in (
        ("Features", lambda s: Features(2, scales=[s]), "scales"),
        ("Features, no list", lambda s: Features(2, scales=s), "scales"),
        ("BoxFactor", BoxFactor, "half_width"),
        ("DecayFactor", DecayFactor, "length"),
        ("GaussianFactor", GaussianFactor, "scale"),
    )
}

LAWS = ("Radial", "Gaussian", "TruncatedGaussian")

CENTERS = {
    type(make(None)).__name__: (lambda make=make: make([0.0, float("inf")]), "center", "inf", "finite coord")
    for make in (
        lambda c: BoxFactor(1.0, center=c),
        lambda c: DecayFactor(1.0, center=c),
        lambda c: GaussianFactor(1.0, center=c),
        lambda c: Features(2, scales=[1.0], center=c),
    )
}

SHIFT = torch.diag(torch.ones(3), 1)  # not self-adjoint
TALL = Problem(Matrix(torch.ones(3, 2)))
SADDLE = torch.diag(torch.tensor([2.0, 1.0, -1.0]))


def rival(objective, problem="brownian", k=2, **options):
    return lambda: solve(problem, k, objective=objective, progress=False, **options)


RIVALS = (
    {
        f"{objective}, {name}": (
            call(objective),
            "objective",
            f"{objective!r} for {got} self-adjoint",
            "self-adjoint operator",
            "Use objective='lora', which has functions of their own for both sides",
        )
        for objective in ("spin", "neuralef", "omm")
        for name, got, call in (
            ("volterra", "Integral, which is not", lambda o: rival(o, "volterra")),
            ("a rectangle", "Matrix, which is not", lambda o: rival(o, TALL, 1)),
            ("svds", "Matrix, which is not", lambda o: lambda: svds(SHIFT, 1, objective=o)),
            ("svds of symmetric", "Matrix, which is not", lambda o: lambda: svds(EYE, 1, objective=o)),
            ("svds of a kernel", "TwoSided, which is not", lambda o: lambda: svds(KERNEL, 1, objective=o)),
        )
    }
    | {
        f"{objective}, nesting {name}": (
            rival(objective, nesting=nesting),
            "nesting",
            got,
            "a slope of its own",
            "Leave nesting out",
        )
        for objective in ("spin", "neuralef")
        for name, nesting, got in (
            ("none", "none", "'none'"),
            ("weights", Nesting.joint(2, [0.7, 0.3]), "'joint' with objective=" + repr(objective)),
        )
    }
    | {
        f"{name}={value!r} with {objective}": (
            rival(objective, **{name: value}),
            name,
            f"{value!r} with objective={objective!r}",
            f"belongs to objective='{owner}'",
            "Leave it out",
        )
        for name, value, owner, wrong in (
            ("decay", 0.1, "spin' or 'neuralef", ("lora", "omm")),
            ("form", "original", "neuralef", ("lora", "omm", "spin")),
            ("order", 2, "omm", ("lora", "spin", "neuralef")),
            ("invert", True, "omm", ("lora", "spin", "neuralef")),
            ("moment", "plain", "lora' or 'omm' or 'neuralef", ("spin",)),
        )
        for objective in wrong
    }
    | {
        f"decay = {decay!r}": (
            rival("spin", decay=decay),
            "decay",
            repr(decay),
            "above 0, at most 1",
            "forgets",
        )
        for decay in (0, 0.0, -0.1, 1.5, True, "slow", float("nan"))
    }
    | {
        f"varpro with {objective}": (
            rival(objective, method="varpro"),
            "objective",
            f"{objective!r}, with method='varpro'",
            "'lora'",
            "method='sgd'",
        )
        for objective in ("spin", "neuralef", "omm")
    }
    | {
        f"invert = {c!r}": (
            rival("omm", "hydrogen2d", invert=c, network={"widths": (8, 8)}),
            "invert",
            repr(c),
            "a number above all values",
            "invert=True finds one",
        )
        for c in (0.5, -1.0, float("nan"), float("inf"))
    }
    | {
        "omm, unbounded": (
            rival("omm", "hydrogen2d"),
            "objective",
            "'omm' for Schrodinger, which is unbounded below",
            "no negative values",
            "invert=True",
        ),
        "omm, unbounded, not asked to invert": (
            rival("omm", "hydrogen2d", invert=False),
            "objective",
            "unbounded below",
            "no negative values",
            "invert=True",
        ),
        "omm, indefinite": (
            rival("omm", Problem(Matrix(SADDLE)), 1),
            "objective",
            "Matrix, which has values down to -1",
            "with a single one the objective has no minimum",
            "invert=True",
        ),
        "order = 0": (rival("omm", order=0), "order", "0", "at least 1"),
        "invert in words": (rival("omm", invert="yes"), "invert", "'yes'", "a number above all values of"),
        "order = 1.5": (rival("omm", order=1.5), "order", "1.5", "an integer"),
        "order 2 by pairs": (
            rival("omm", order=2, kind="iid", moment="u"),
            "moment",
            "'u' with order=2",
            "'plain' for an order above 1",
        ),
        "form": (rival("neuralef", form="origin"), "form", "'origin'", "'unbiased'", "'original'?"),
        "moment of the original form": (
            rival("neuralef", form="original", kind="iid", moment="u"),
            "moment",
            "'u' with form='original'",
            "plain products",
            "form='unbiased'",
        ),
        "decay of the original form": (
            rival("neuralef", form="original", decay=0.5),
            "decay",
            "0.5 with form='original'",
            "has no averages",
            "form='unbiased'",
        ),
        "neuralef by pairs on quadrature": (
            rival("neuralef", kind="quadrature", moment="u"),
            "moment",
            "'u' on quadrature",
            "'plain'",
        ),
        "compile": (
            rival("spin", compile=True),
            "compile",
            "True with objective='spin'",
            "derivatives inside its step",
            "Leave it out",
        ),
        "objective": (rival("spinn"), "objective", "'spinn'", "'neuralef'", "Did you mean 'spin'?"),
    }
)


TABLE = flat(
    {
        "rival": RIVALS,
        "varpro": VARPRO,
        "singular point": SINGULAR,
        "length": LENGTHS,
        "center": CENTERS,
    }
) | flat({"estimator": ESTIMATORS, "unbounded": UNBOUNDED, "name": NAMES, "number": NUMBERS, "kind": KINDS})


def test_singular_points_of_the_domain_are_welcome():
    """Inside, on the boundary, at a pole or a zero of a law, between the parts of a mixture."""
    for points, law in (
        ([(0.5, 0.5)], Uniform([0.0, 0.0], [1.0, 1.0])),
        ([(0.0, 0.0)], Uniform([0.0, 0.0], [1.0, 1.0])),
        ([(0.0, 0.0)], Radial(2, scale=1.0)),
        ([(0.0, 0.0)], Radial(2, scale=1.0, power=3.0)),
        ([(-1.0, 0.0), (1.0, 0.0)], Mixture([Radial(2, scale=1.0, center=[c, 0.0]) for c in (-1, 1)])),
        ([(30.0, 0.0)], Gaussian(2)),
    ):
        problem = Problem(Schrodinger(coulomb, singular_points=points), Lebesgue(law))
        assert problem.operator.singular_points == tuple(points)


@pytest.mark.parametrize("row", TABLE.values(), ids=TABLE)
def test_refused(row):
    check(*row)


def test_cuda_without_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    for call in (lambda: solve("brownian", device="cuda"), lambda: svds(EYE, 1, device="cuda:0")):
        check(call, "device", "'cuda", "a device of this machine", 'It has no cuda device; use "auto"')


def test_mps_has_no_float64(monkeypatch):
    check(lambda: solve("brownian", device="mps"), "device", "'mps'", "a device of this machine")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    check(lambda: solve("brownian", device="mps", dtype=torch.float64), "device", "float64", "float32 on mps")


def test_a_matrix_runs_on_the_cpu_whatever_the_device(monkeypatch):
    check(lambda: svds(EYE, 1, device="mps"), "device", "'mps'", "a device of this machine")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for device in ("mps", "cuda", "cuda:0", "auto"):
        for dtype in (None, torch.float32, torch.float64):
            choices = chosen(Problem(Matrix(EYE)), device=device, dtype=dtype)
            assert (choices.device.type, choices.dtype) == ("cpu", torch.float64)
    assert chosen(problems.brownian(), device="cuda").device.type == "cuda"


def chosen(problem, k=1, *, seed=0, **options):
    return check_choices(
        problem,
        k,
        Settings(steps=1),
        method="sgd",
        objective="lora",
        nesting="joint",
        warm_start=None,
        preset=None,
        seed=seed,
        network=None,
        callbacks=[],
        **{"device": "cpu", "dtype": None, **options},
    )


def test_integers_and_numbers_of_numpy():
    choices = chosen(problems.brownian(), np.int64(2), seed=np.int32(7))
    assert choices.nesting == Nesting("joint", 2)
    assert (choices.seed, type(choices.seed)) == (7, int)
    settings = Settings(steps=np.int64(5), batch_size=np.uint8(9), lr=np.float32(0.5), ema=np.float32(0.5))
    assert (settings.steps, settings.batch_size, settings.lr) == (5, 9, 0.5)
    assert {type(n) for n in (settings.steps, settings.batch_size)} == {int}


def test_auto_takes_a_gpu_only_if_it_knows_the_dtype(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device("auto", torch.float32).type == "mps"
    assert pick_device("auto", torch.float64).type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto", torch.float64).type == "cuda"
    assert pick_device(torch.device("cpu"), torch.float64).type == "cpu"


def test_an_unknown_budget(monkeypatch):
    monkeypatch.setenv("NBSVD_BUDGET", "laptops")
    check(nbsvd.budget, "NBSVD_BUDGET", "'laptops'", "'ci', 'laptop', 'full'", "Did you mean 'laptop'?")
    monkeypatch.delenv("NBSVD_BUDGET")
    assert nbsvd.budget() == "laptop"


def test_nodes_that_a_second_measure_cannot_place():
    mixed = Integral(lambda x, y: x @ y.t(), Uniform(0.0, 1.0), Empirical(F[:, :1]))
    check(lambda: svds(mixed, 1, kind="sobol"), "kind", "'sobol'", "'iid', 'quadrature'")


# Rows whose expectation already says what to do, or whose remedy is still to be written; no others may join.
NO_REMEDY = {
    "name: no options",
    "number: side",
    "number: frequencies",
    "number: frequency",
    "number: center",
    "number: length scale",
    "kind: exact, dimension",
    *(f"length: {name}" for name in LENGTHS if name.split()[0].strip(",") in LAWS),
}


def test_every_message_is_a_sentence_that_tells_what_to_do():
    silent = {name for name, (call, *_) in TABLE.items() if not told(call)}
    assert silent <= NO_REMEDY


def test_a_second_measure_and_a_strange_ansatz_are_refused(unchecked):
    brownian = nbsvd.problems.brownian().operator
    with pytest.raises(nbsvd.ArgumentError, match="measure"):
        nbsvd.Problem(brownian, Uniform(0.0, 2.0))
    with pytest.raises(nbsvd.ArgumentError, match="ansatz"):
        nbsvd.Problem(brownian, ansatz=lambda x: x)
