"""Matrices that do not fit, or nearly so: ours beside SciPy and scikit-learn, each in a process of its own.

    python benchmarks/big_matrix.py --threads 1 --record      about half an hour, 2 GB of disk
    python benchmarks/big_matrix.py --quick                   a minute, small sizes, to see that it runs

* **sparse**: 1,000,000 users by 100,000 items, about 1.5e7 entries of 1e11. Twenty topics: topic t belongs to
  10,000 users and 1,000 items, drawn at random and therefore overlapping; of the pairs of these one in twenty
  (500,000, with repetition, which is summed) has an entry of ``1/(1 + (t - 1)/6)``. Besides, 5,000,000
  entries at random places with the standard normal law. Topic t alone has a singular value of about 158 times
  its entry, on top of random parts of the topics and of the noise, which reach to about 29 times the largest
  entry: the ten values asked for decay slowly, and the eleventh is not far below the tenth.
* **memory map**: a file of 2 GB of float32, 25,000 x 20,000: twenty singular values ``100 x 0.7^i`` on random
  directions (nearly orthogonal), plus independent normal entries whose norm is about 1, and rounding.

What each row says: seconds with the matrix in place (loading it is not counted), the peak of the resident
memory of the process, how much of it came on top of what it held with the matrix loaded, the largest relative
error of ten singular values, and the largest sine of an angle between singular vectors, both sides. The
reference is SciPy's ``svds`` (ARPACK, to machine precision), for the memory map with products in float64 on
our blocks. "Sampled" is ``kind="iid"``: stochastic gradients on blocks of random rows and columns, after the
same start from two products with the matrix, for a given time.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch
from _machine import Number, compare, describe, provenance, record

import nbsvd
from nbsvd.operators import Matrix

try:
    from sklearn.utils.extmath import randomized_svd
except ImportError:  # the rest is worth having without it
    randomized_svd = None

K = 10
FULL = {"users": 1_000_000, "items": 100_000, "rows": 25_000, "columns": 20_000, "batch": 4096}
QUICK = {"users": 4_000, "items": 400, "rows": 800, "columns": 600, "batch": 256}
PRECISE = 1e-8  # largest relative error of values that counts as accurate
TOPICS, BLOCK = 20, 256


# The matrices --------------------------------------------------------------------------------------------


def make_sparse(users: int, items: int, seed: int = 0) -> Any:
    """Topics and noise, see above, in proportion to the sizes."""
    rng = np.random.default_rng(seed)
    some_users, some_items = users // 100, items // 100
    if users < 100_000:  # few enough that one in a hundred is too few
        some_users, some_items = users // 10, items // 10
    count = some_users * some_items // 20
    places, entries = [], []
    for t in range(TOPICS):
        U = rng.choice(users, some_users, replace=False).astype(np.int32)
        V = rng.choice(items, some_items, replace=False).astype(np.int32)
        places.append((U[rng.integers(some_users, size=count)], V[rng.integers(some_items, size=count)]))
        entries.append(np.full(count, 1 / (1 + t / 6)))
    noise = 10 * count
    where = (rng.integers(size, size=noise, dtype=np.int32) for size in (users, items))
    places.append(tuple(where))  # type: ignore[arg-type]
    entries.append(rng.standard_normal(noise))
    rows, columns = (np.concatenate(side) for side in zip(*places, strict=True))
    return scipy.sparse.coo_array((np.concatenate(entries), (rows, columns)), shape=(users, items)).tocsr()


def write_map(path: Path, rows: int, columns: int, seed: int = 0) -> None:
    """A memory map of float32, written a block of rows at a time."""
    rng = np.random.default_rng(seed)
    values = 100 * 0.7 ** np.arange(TOPICS)
    V = (rng.standard_normal((TOPICS, columns)) / math.sqrt(columns)).astype(np.float32)
    noise = 1 / (math.sqrt(rows) + math.sqrt(columns))
    A = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(rows, columns))
    for start in range(0, rows, BLOCK):
        n = min(BLOCK, rows - start)
        U = (rng.standard_normal((n, TOPICS)) * values / math.sqrt(rows)).astype(np.float32)
        A[start : start + n] = U @ V + np.float32(noise) * rng.standard_normal((n, columns), np.float32)
    A.flush()


# The contenders ------------------------------------------------------------------------------------------

Found = tuple[Any, Any, Any]  # u, s, v


def ours(A: Any, job: dict[str, Any]) -> Found:
    u, s, v = nbsvd.svds(A, K, seconds=job["limit"], progress=False)
    return u.numpy(), s.numpy(), v.numpy()


def ours_sampled(A: Any, job: dict[str, Any]) -> Found:
    options = {"kind": "iid", "optimizer": "adam", "batch_size": job["batch"], "seconds": job["seconds"]}
    u, s, v = nbsvd.svds(A, K, progress=False, **options)
    return u.numpy(), s.numpy(), v.numpy()


def untrained(A: Any, job: dict[str, Any]) -> Found:
    """Where both of ours start: the Ritz solution on the range that two products find."""
    u, s, v = nbsvd.svds(A, K, steps=0, progress=False)
    return u.numpy(), s.numpy(), v.numpy()


def scipy_svds(A: Any, job: dict[str, Any]) -> Found:
    start = np.random.default_rng(0).standard_normal(min(A.shape)).astype(A.dtype)
    u, s, vt = scipy.sparse.linalg.svds(A, K, v0=start)
    return u, s, vt.T


def scipy_on_blocks(A: Any, job: dict[str, Any]) -> Found:
    T = Matrix(A, self_adjoint=False)

    def product(M: Matrix) -> Callable[[Any], Any]:
        return lambda f: M.product(torch.from_numpy(np.ascontiguousarray(f).reshape(len(f), -1))).numpy()

    both = scipy.sparse.linalg.LinearOperator(
        A.shape,
        matvec=product(T),
        rmatvec=product(T.adjoint),
        matmat=product(T),
        rmatmat=product(T.adjoint),
        dtype=np.float64,
    )
    return scipy_svds(both, job)


def scikit_learn(A: Any, job: dict[str, Any]) -> Found:
    u, s, vt = randomized_svd(A, K, random_state=0)
    return u, s, vt.T


REFERENCE = "SciPy svds"
CONTENDERS: dict[str, dict[str, Callable[[Any, dict[str, Any]], Found]]] = {
    "sparse": {
        REFERENCE: scipy_svds,
        "ours": ours,
        "ours, untrained": untrained,
        "ours, sampled": ours_sampled,
        "scikit-learn randomized_svd": scikit_learn,
    },
    "memory map": {
        REFERENCE: scipy_on_blocks,
        "ours": ours,
        "ours, untrained": untrained,
        "ours, sampled": ours_sampled,
        "SciPy svds, float32": scipy_svds,
        "scikit-learn randomized_svd, float32": scikit_learn,
    },
}
if randomized_svd is None:
    for group in CONTENDERS.values():
        for name in [name for name in group if name.startswith("scikit")]:
            del group[name]


# One process each ----------------------------------------------------------------------------------------


def memory() -> tuple[float, float]:
    """Resident memory of this process now, and its peak so far, in MB; on Linux, else the peak twice."""
    status = Path("/proc/self/status")
    if status.exists():
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        now, peak = (int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
        return now, peak
    import resource

    unit = 2**20 if sys.platform == "darwin" else 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    return peak, peak


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Load the matrix, let one contender work, write its vectors, and tell of time and memory."""
    torch.set_num_threads(job["threads"])
    folder = Path(job["folder"])
    if job["group"] == "sparse":
        A: Any = scipy.sparse.load_npz(folder / "sparse.npz")
    else:
        A = np.load(folder / "map.npy", mmap_mode="r")
    before, loaded_peak = memory()
    began = time.perf_counter()
    try:
        u, s, v = CONTENDERS[job["group"]][job["name"]](A, job)
    except (MemoryError, TypeError, ValueError) as error:
        return {"refused": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
    seconds, (_, peak) = time.perf_counter() - began, memory()
    order = np.argsort(s)[::-1]
    np.savez(folder / "found.npz", u=u[:, order], s=s[order], v=v[:, order])
    return {"seconds": seconds, "peak_mb": peak, "added_mb": peak - before, "loaded_peak_mb": loaded_peak}


def in_child(job: dict[str, Any]) -> dict[str, Any]:
    """The same in a process of its own, whose memory nothing else has touched."""
    threads = {name: str(job["threads"]) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).resolve()), "--job", json.dumps(job)],
        env=os.environ | threads,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        return {"refused": f"ended with {done.returncode}: {(done.stderr.splitlines() or [''])[-1]}"}
    return dict(json.loads(done.stdout.splitlines()[-1]))


# The comparison ------------------------------------------------------------------------------------------


def sines(found: Any, exact: Any) -> float:
    """The largest sine of an angle between columns of two matrices of unit columns."""
    along = (found * exact).sum(0)
    return float(np.linalg.norm(found - exact * along, axis=0).max())


def contest(group: str, setting: dict[str, Any]) -> dict[str, Any]:
    folder = Path(setting["folder"])
    print(f"\n{group}: {setting['said']}\n  {'k = ' + str(K):<38}", end="")
    print("".join(f"{c:>14}" for c in ("seconds", "peak MB", "added MB", "values", "angles")), flush=True)
    rows: dict[str, Any] = {}
    exact: Any = None
    for name in CONTENDERS[group]:
        row = in_child({"group": group, "name": name, **setting})
        if "refused" in row:
            rows[name] = row
            print(f"  {name:<38}  can't run: {row['refused'][:70]}", flush=True)
            continue
        with np.load(folder / "found.npz") as file:
            found = {key: file[key].astype(np.float64) for key in ("u", "s", "v")}
        (folder / "found.npz").unlink()
        if exact is None:
            exact = found
        row["relative_max"] = float(np.abs(found["s"] / exact["s"] - 1).max())
        row["angle_max"] = max(sines(found[side], exact[side]) for side in ("u", "v"))
        rows[name] = row
        cells = [f"{row[key]:.0f}" for key in ("seconds", "peak_mb", "added_mb")]
        if row["seconds"] < 10:
            cells[0] = f"{row['seconds']:.2g}"
        errors = ["-"] * 2 if exact is found else [f"{row[key]:.1e}" for key in ("relative_max", "angle_max")]
        print(f"  {name:<38}" + "".join(f"{cell:>14}" for cell in cells + errors), flush=True)
    about = {key: setting[key] for key in ("said", "megabytes", "seconds", "batch")}
    values = None if exact is None else exact["s"].tolist()
    report = about | {"values": values, "rows": rows}
    for sentence in verdict(report):
        print("  " + sentence, flush=True)
    return report


def verdict(report: dict[str, Any]) -> list[str]:
    """Who wins, in plain words, computed from the numbers."""
    rows = {name: row for name, row in report["rows"].items() if "refused" not in row}
    if REFERENCE not in rows or "ours" not in rows:
        return [
            "No comparison: " + ", ".join(name for name in report["rows"] if name not in rows) + " failed."
        ]
    own, sentences = rows["ours"], []
    accurate = {name: row for name, row in rows.items() if row["relative_max"] <= PRECISE}
    best = min(accurate, key=lambda name: accurate[name]["seconds"])
    if best == "ours":
        second = min((row["seconds"] for name, row in accurate.items() if name != "ours"), default=math.inf)
        sentences.append(f"Ours wins on time to {PRECISE:g}: {second / own['seconds']:.2g} times as fast.")
    else:
        ratio = own["seconds"] / accurate[best]["seconds"]
        reached = (
            f"ours takes {ratio:.2g} times as long"
            if "ours" in accurate
            else f"ours is at {own['relative_max']:.1e} after {own['seconds']:.0f} s"
        )
        sentences.append(f"{best} wins on time to {PRECISE:g}: {reached}.")
    least = min(accurate, key=lambda name: accurate[name]["added_mb"])
    sentences.append(
        f"Of those as accurate, {least} adds the least memory: {accurate[least]['added_mb']:.0f} MB; "
        f"ours adds {own['added_mb']:.0f} MB to a matrix of {report['megabytes']:.0f} MB."
    )
    rough = {name: row for name, row in rows.items() if name not in accurate and "ours" not in name}
    for name, row in rough.items():
        sentences.append(f"{name} stops at {row['relative_max']:.1e}, after {row['seconds']:.2g} s.")
    if "ours, sampled" in rows and "ours, untrained" in rows:
        sampled, start = rows["ours, sampled"], rows["ours, untrained"]
        change = start["relative_max"] / sampled["relative_max"]
        said = f"{change:.2g} times better than" if change > 1 else f"{1 / change:.2g} times worse than"
        better = "loses to" if sampled["relative_max"] > own["relative_max"] else "beats"
        sentences.append(
            f"Sampled blocks are at {sampled['relative_max']:.1e} after {sampled['seconds']:.0f} s, {said} "
            f"their start: that {better} exact sums, which are at {own['relative_max']:.1e} after "
            f"{own['seconds']:.2g} s."
        )
    return sentences


def numbers(report: dict[str, Any]) -> dict[str, Number]:
    """All numbers that say how we stand."""
    found = {}
    for group, told in report["groups"].items():
        rows = {name: row for name, row in told["rows"].items() if "refused" not in row}
        for name, row in rows.items():
            if name in ("ours", "ours, sampled"):
                found[f"{group}: seconds of {name}"] = Number(row["seconds"], "time")
                found[f"{group}: error of {name}"] = Number(row["relative_max"], "error")
                found[f"{group}: MB added by {name}"] = Number(row["added_mb"], "memory")
            elif "ours" in rows and "ours" not in name:
                ahead = row["seconds"] / rows["ours"]["seconds"]
                found[f"{group}: {name}, its time / ours"] = Number(ahead, "ratio")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each sampled run")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds that ours may take at most")
    parser.add_argument("--only", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--folder", type=Path, help="where the matrices go meanwhile; a temporary one")
    parser.add_argument("--quick", action="store_true", help="small sizes, 2 s sampled: not for the record")
    parser.add_argument("--record", action="store_true", help="keep the report in benchmarks/results")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        print(json.dumps(run(json.loads(args.job))))
        return
    sizes = QUICK if args.quick else FULL
    if args.quick:
        args.seconds, args.record = 2.0, False
    torch.set_num_threads(args.threads)
    packages = [] if randomized_svd is None else ["scikit-learn"]
    report, title = provenance(*packages), f"big_matrix-{args.threads}threads"
    print(describe(report))
    report["groups"] = {}
    shared = {key: getattr(args, key) for key in ("threads", "seconds", "limit")} | {"batch": sizes["batch"]}
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        for group in args.only:
            if group == "sparse":
                A = make_sparse(sizes["users"], sizes["items"])
                size = (A.data.nbytes + A.indices.nbytes + A.indptr.nbytes) / 2**20
                said = f"{A.shape[0]} x {A.shape[1]}, {A.nnz} entries, {size:.0f} MB"
                scipy.sparse.save_npz(Path(folder) / "sparse.npz", A, compressed=False)
                del A
            else:
                path = Path(folder) / "map.npy"
                write_map(path, sizes["rows"], sizes["columns"])
                size = path.stat().st_size / 2**20
                said = f"{sizes['rows']} x {sizes['columns']} of float32, {size:.0f} MB"
            report["groups"][group] = contest(
                group, shared | {"folder": folder, "said": said, "megabytes": size}
            )
    compare(title, report, numbers)
    if args.record:
        print("Recorded in", record(title, report).name)


if __name__ == "__main__":
    main()
