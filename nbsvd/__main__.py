"""The command line: ``nbsvd solve``, ``nbsvd problems``. The same engine, nothing of its own."""

import inspect
import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

import nbsvd
from nbsvd._errors import ArgumentError, TrainingDiverged, nearest, require
from nbsvd.problems import PROBLEMS
from nbsvd.spectrum import Result
from nbsvd.spectrum.storage import check_writable
from nbsvd.training import Settings

FILES = ("result.safetensors", "figure.png", "report.json")
DTYPES = {"float32": torch.float32, "float64": torch.float64}

app = typer.Typer(
    help="Ordered singular functions of an operator by nested low-rank approximation.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.command()
def problems() -> None:
    """List the named problems."""
    width = max(map(len, PROBLEMS))
    for name, make in PROBLEMS.items():
        typer.echo(f"{name:{width}}  {summary(make)}")


def summary(function: object) -> str:
    """Return the first line of a docstring as plain text."""
    return (inspect.getdoc(function) or "").partition("\n")[0].replace("``", "")


@app.command()
def solve(
    problem: Annotated[str, typer.Argument(help="Name of a problem; see 'nbsvd problems'.")],
    k: Annotated[int, typer.Option("--k", "-k", help="Number of components.")] = 6,
    method: Annotated[str, typer.Option(help="sgd | varpro")] = "sgd",
    objective: Annotated[str, typer.Option(help="lora | omm | spin | neuralef")] = "lora",
    nesting: Annotated[str, typer.Option(help="joint | sequential | none")] = "joint",
    steps: Annotated[int | None, typer.Option(help="Limit in steps.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Limit in seconds; 60 if neither is given.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Nodes of one step.")] = None,
    device: Annotated[str, typer.Option(help="auto | cpu | cuda | mps")] = "auto",
    dtype: Annotated[
        str | None, typer.Option(help="float32 | float64, of the training; that of the method unless given.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of all randomness.")] = 0,
    warm_start: Annotated[str, typer.Option(help="ritz | none")] = "ritz",
    preset: Annotated[str | None, typer.Option(help="paper; for hydrogen2d in its box.")] = None,
    domain: Annotated[str | None, typer.Option(help="plane | box, for hydrogen2d.")] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="An argument of the problem, e.g. 'frequencies=[1,2,3]'; repeat.")
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(help="A setting of the training, e.g. lr=1e-3, or invert=true with omm; repeat."),
    ] = None,
    spectral: Annotated[
        str | None, typer.Option(help="log | lora | sum: what method varpro maximises.")
    ] = None,
    compile: Annotated[bool, typer.Option(help="Compile the step of method sgd.")] = False,
    out: Annotated[Path | None, typer.Option(help=f"Folder for {', '.join(FILES)}.")] = None,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
) -> None:
    """Solve a named problem, print its values, and write them to a folder."""
    try:
        if out is not None:
            for name in FILES:
                check_writable(out / name, "out")
        if domain is None and preset == "paper" and problem == "hydrogen2d":
            domain = "box"  # the paper's atom
        options = named_options("option", option or ()) | ({} if domain is None else {"domain": domain})
        result = nbsvd.solve(
            nbsvd.problems.get(problem, **options),
            k,
            method=method,
            objective=objective,
            nesting=nesting,
            steps=steps,
            seconds=seconds,
            batch_size=batch_size,
            device=device,
            dtype=None if dtype is None else DTYPES[nearest("dtype", dtype, DTYPES)],
            seed=seed,
            warm_start=None if warm_start == "none" else warm_start,
            preset=preset,
            progress=progress,
            spectral=spectral,
            compile=compile or None,
            **further_settings(setting or ()),
        )
        typer.echo(table(result))
        if out is not None:
            write(result, out)
    except ArgumentError as error:
        typer.echo(f"nbsvd: {error}", err=True)
        raise typer.Exit(2) from None
    except TrainingDiverged as error:
        typer.echo(f"nbsvd: {error}", err=True)
        if out is not None and isinstance(error.result, Result):
            typer.echo(f"Kept in {error.result.save(out / FILES[0])}", err=True)
        raise typer.Exit(1) from None


def further_settings(given: Sequence[str]) -> dict[str, Any]:
    """Return settings of the training that have no option of their own on the command line.

    Example:
        >>> further_settings(["lr=1e-3", "invert=true"])
        {'lr': 0.001, 'invert': True}
    """
    settings = named_options("setting", given)
    own = {"steps", "seconds", "batch_size", "spectral", "compile"}
    names = sorted({f.name for f in fields(Settings)} - own)
    for name in own & set(settings):
        option = "--" + name.replace("_", "-")
        require(
            False,
            "setting",
            got=name,
            expected="a setting without an option of its own",
            remedy=f"Use {option}.",
        )
    return {nearest("setting", name, names): value for name, value in settings.items()}


def named_options(argument: str, given: Sequence[str]) -> dict[str, object]:
    """Return arguments from ``NAME=VALUE``, the values in JSON or plain words.

    Example:
        >>> named_options("option", ["frequencies=[1, 2.5]", "domain=box"])
        {'frequencies': [1, 2.5], 'domain': 'box'}
    """
    options: dict[str, object] = {}
    for entry in given:
        name, sign, value = entry.partition("=")
        require(bool(sign and name), argument, got=entry, expected="NAME=VALUE, such as 'K=[[2,1],[1,2]]'")
        try:
            options[name.strip()] = json.loads(value)
        except ValueError:
            options[name.strip()] = value.strip()
    return options


def write(result: Result, folder: Path) -> None:
    """Write result, figure and report into a folder, the result first."""
    result.save(folder / FILES[0])
    try:
        (folder / FILES[2]).write_text(json.dumps(result.report(), indent=2) + "\n", encoding="utf-8")
        result.plot().savefig(folder / FILES[1], dpi=150)
    except OSError as error:
        raise ArgumentError(
            "out", got=str(folder), expected="room for three files", remedy=f"{error.strerror or error}."
        ) from error
    typer.echo(f"\nWritten to {folder}: {', '.join(FILES)}")


def table(result: Result) -> str:
    """Return values and errors as lines of text."""
    exact = [None] * result.k if result.exact is None else result.exact.values(result.k).tolist()
    lines = [
        f"{'':>4}{'value':>14}{'std. error':>12}"
        + (f"{'untrained':>14}" if result.exact is None else f"{'exact':>14}{'rel. error':>12}")
    ]
    untrained = result.info.get("untrained", [])
    for l, (v, e, x) in enumerate(zip(result.values.tolist(), result.stderr.tolist(), exact, strict=True), 1):
        before = f"{untrained[l - 1]:14.8f}" if l <= len(untrained) else ""
        known = before if x is None else f"{x:14.8f}{abs(v - x) / abs(x):12.1e}"
        lines.append(f"{l:4}{v:14.8f}{e:12.1e}{known}")
    info = result.info
    threads = f"{info['threads']} thread" + "s" * (info["threads"] > 1)
    lines.append(
        f"\n{info['steps']} steps, {info['seconds']:.1f} s, {threads}, seed {info['seed']}, {info['stopped']}"
    )
    if result.exact is not None:
        errors = result.errors()
        lines.append(f"\n{'':>20}{'trained':>12}{'untrained':>12}")
        lines += [f"{name:>20}{errors[name]:12.1e}{result.control[name]:12.1e}" for name in errors]
    return "\n".join(lines)


if __name__ == "__main__":
    app()
