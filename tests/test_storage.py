"""Results on disk: the same numbers back, to the bit; whole files or none; nothing unpickled; refusals."""

import json
import pickle
import struct

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import nbsvd
from nbsvd import ArgumentError
from nbsvd.functions import DecayFactor
from nbsvd.measures import Uniform
from nbsvd.spectrum import storage

f64 = torch.float64
WELL = nbsvd.problems.oscillator2d(frequencies=(1.0, 1.5), center=(0.5, 0.0))
MATRIX = nbsvd.Problem(nbsvd.Matrix(torch.arange(12.0, dtype=f64).reshape(4, 3).sin()))


class Own(nn.Module):
    """A module that is not ours, in float32 and with names of its own."""

    def __init__(self, k=2, dim=2, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.wide = nn.Parameter(torch.randn(dim, 5, generator=generator))
        self.out = nn.Parameter(torch.randn(5, k, generator=generator))

    def forward(self, x):
        return torch.tanh(x @ self.wide) @ self.out


def solve(problem, k=2, **options):
    options = {"network": {"widths": (6, 6)}} | options
    return nbsvd.solve(problem, k, steps=3, progress=False, **options)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    result = solve(WELL)
    return result, result.save(tmp_path_factory.mktemp("saved") / "well.safetensors")


def same(a, b, points):
    assert torch.equal(a.values, b.values)
    assert torch.equal(a.stderr, b.stderr)
    assert torch.equal(a.right(points), b.right(points))
    assert torch.equal(a.left(points), b.left(points)) if a.measure_y.dim == points.shape[1] else True
    assert a.history == b.history
    assert dict(a.info) == dict(b.info)
    assert dict(a.control) == dict(b.control)
    assert (a.label, a.k, a.self_adjoint) == (b.label, b.k, b.self_adjoint)


POINTS = torch.randn(50, 2, generator=torch.Generator().manual_seed(0), dtype=f64)


def test_network_and_factor_come_back_to_the_bit(saved):
    result, path = saved
    same(nbsvd.load(path), result, POINTS)
    assert nbsvd.load(str(path)).errors() == result.errors()
    assert json.dumps(nbsvd.load(path).report()) == json.dumps(result.report())


@pytest.mark.parametrize("change", ["ritz", "align"])
def test_a_changed_result_comes_back_as_it_is(saved, tmp_path, change):
    changed = getattr(saved[0], change)()
    same(nbsvd.load(changed.save(tmp_path / "a.safetensors")), changed, POINTS)


def test_options_of_a_named_problem_come_back(saved):
    again = nbsvd.load(saved[1])
    assert torch.equal(again.exact.values(6), WELL.exact.values(6))
    assert again.measure_x.center == (0.5, 0.0)
    assert saved[0].info["options"] == {"frequencies": [1.0, 1.5], "center": [0.5, 0.0]}


@pytest.mark.parametrize("self_adjoint", [True, False])
def test_tables_come_back(tmp_path, self_adjoint):
    problem = (
        nbsvd.Problem(nbsvd.Matrix(torch.diag(torch.tensor([3.0, 2.0, 1.0, 0.5]))))
        if self_adjoint
        else MATRIX
    )
    result = nbsvd.solve(problem, 2)
    path = result.save(tmp_path / "matrix.safetensors")
    same(nbsvd.load(path, problem=problem), result, result.nodes().x)
    with pytest.raises(
        ArgumentError, match=r"problem: got a result of the problem 'custom'.*load\(path, problem="
    ):
        nbsvd.load(path)


def test_both_sides_of_an_svd_come_back(tmp_path):
    result = solve("volterra")
    again = nbsvd.load(result.save(tmp_path / "v.safetensors"))
    assert again.left_model is not again.right_model
    same(again, result, torch.rand(20, 1, dtype=f64))


@pytest.mark.parametrize("ansatz", [None, DecayFactor(4.0)], ids=["bare", "with a factor"])
def test_a_module_of_the_users_own(tmp_path, ansatz):
    problem = nbsvd.Problem(WELL.operator, WELL.measure, ansatz)
    result = solve(problem, network=lambda generator: Own(seed=3))
    path = result.save(tmp_path / "own.safetensors")
    mine = Own(seed=99)
    before = mine.wide.detach().clone()
    again = nbsvd.load(path, model=mine, problem=problem)
    same(again, result, POINTS)
    # The module that was passed is a pattern: it is neither changed nor turned to float64.
    assert torch.equal(mine.wide, before)
    assert mine.wide.requires_grad
    with pytest.raises(
        ArgumentError, match=r"model: got None; expected the module that was trained.*model=\."
    ):
        nbsvd.load(path, problem=problem)
    with pytest.raises(ArgumentError, match="model: got a module with other parameters"):
        nbsvd.load(path, model=Own(k=3), problem=problem)


def test_two_modules_of_the_users_own(tmp_path):
    problem = nbsvd.problems.volterra()
    result = solve(problem, network=lambda generator: Own(dim=1, seed=int(generator.initial_seed())))
    path = result.save(tmp_path / "own.safetensors")
    same(nbsvd.load(path, Own(dim=1), left_model=Own(dim=1)), result, torch.rand(20, 1, dtype=f64))
    with pytest.raises(ArgumentError, match="left_model: got None"):
        nbsvd.load(path, Own(dim=1))


def test_there_is_no_such_file(tmp_path):
    with pytest.raises(
        ArgumentError, match=r"path: got .*none.safetensors; expected a file written by Result"
    ):
        nbsvd.load(tmp_path / "none.safetensors")
    with pytest.raises(ArgumentError, match="path: got"):
        nbsvd.load(tmp_path)


class Payload:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was opened",))


def test_nothing_is_unpickled(tmp_path):
    path = tmp_path / "pickle.safetensors"
    path.write_bytes(pickle.dumps(Payload()))
    with pytest.raises(ArgumentError, match="path: got"):
        nbsvd.load(path)
    torch.save({"right": Payload()}, path)
    with pytest.raises(ArgumentError, match="path: got"):
        nbsvd.load(path)


def test_a_foreign_file_is_refused(tmp_path):
    path = tmp_path / "foreign.safetensors"
    save_file({"weights": torch.zeros(3)}, path)
    with pytest.raises(ArgumentError, match="a safetensors file of another program"):
        nbsvd.load(path)


def test_a_truncated_file_is_refused(saved, tmp_path):
    whole = saved[1].read_bytes()
    for length in (0, 5, 100, len(whole) // 2, len(whole) - 1):
        path = tmp_path / f"{length}.safetensors"
        path.write_bytes(whole[:length])
        with pytest.raises(ArgumentError, match=r"path: got .*\.safetensors; expected a file written by"):
            nbsvd.load(path)


def test_a_changed_bit_is_noticed(saved, tmp_path):
    whole = bytearray(saved[1].read_bytes())
    header = struct.unpack("<Q", whole[:8])[0]
    path = tmp_path / "flipped.safetensors"
    for place in (8 + header, 8 + header + 500, len(whole) - 1):
        flipped = bytearray(whole)
        flipped[place] ^= 1
        path.write_bytes(flipped)
        with pytest.raises(ArgumentError, match="does not agree with its checksum"):
            nbsvd.load(path)
    lie = bytes(whole).replace(b'\\"seed\\": 0', b'\\"seed\\": 7')
    assert lie != bytes(whole)
    path.write_bytes(lie)
    with pytest.raises(ArgumentError, match="does not agree with its checksum"):
        nbsvd.load(path)


def test_another_format_is_refused(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "FORMAT", 99)
    path = saved[0].save(tmp_path / "later.safetensors")
    monkeypatch.undo()
    with pytest.raises(ArgumentError, match="path: got format 99; expected format 1"):
        nbsvd.load(path)


def test_a_failed_write_leaves_the_old_file(saved, tmp_path, monkeypatch):
    path = saved[0].save(tmp_path / "a.safetensors")
    before = path.read_bytes()

    def full(tensors, filename, metadata):
        filename.write_bytes(b"half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage, "save_file", full)
    with pytest.raises(ArgumentError, match="No space left on device"):
        saved[0].ritz().save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]  # no half-written file stays


def test_writing_replaces_what_is_there(saved, tmp_path):
    path = tmp_path / "deep" / "folder" / "a.safetensors"  # folders are made
    saved[0].save(path)
    saved[0].ritz().save(path)
    assert nbsvd.load(path).label == "ritz"
    assert [p.name for p in path.parent.iterdir()] == ["a.safetensors"]


def test_a_file_holds_numbers_and_json_only(saved):
    whole = saved[1].read_bytes()
    header = json.loads(whole[8 : 8 + struct.unpack("<Q", whole[:8])[0]])
    description = json.loads(header["__metadata__"]["nbsvd"])
    assert description["info"]["problem"] == "oscillator2d"
    assert {entry["dtype"] for name, entry in header.items() if name != "__metadata__"} <= {"F64", "I64"}
    with pytest.raises(pickle.UnpicklingError):
        pickle.loads(whole)


def test_another_problem_is_refused(saved):
    with pytest.raises(ArgumentError, match=r"problem: got one with .*Integral.*; expected .*Schrodinger"):
        nbsvd.load(saved[1], problem=nbsvd.problems.volterra())


def test_options_that_are_not_json_are_kept_as_words(tmp_path):
    kernel = nbsvd.Integral(lambda x, y: torch.minimum(x, y.t()), Uniform(0.0, 1.0))
    problem = nbsvd.Problem(kernel, options={"device": torch.device("cpu")})
    result = solve(problem)
    again = nbsvd.load(result.save(tmp_path / "a.safetensors"), problem=problem)
    assert again.info["options"] == {"device": "cpu"}


def test_another_problem_of_the_same_dimension_is_refused(tmp_path):
    path = nbsvd.solve("volterra", k=1, steps=0, progress=False).save(tmp_path / "a.safetensors")
    other = nbsvd.Problem(nbsvd.Integral(lambda x, y: (x < y.t()).to(x), Uniform(0.0, 2.0)))
    with pytest.raises(ArgumentError, match="problem"):
        nbsvd.load(path, problem=other)
