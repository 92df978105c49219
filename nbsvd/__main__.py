"""The command line: ``nbsvd solve``, ``nbsvd problems``. The same engine, nothing of its own."""

import inspect
import json
from pathlib import Path
from typing import Annotated

import typer

import nbsvd
from nbsvd._errors import ArgumentError, TrainingDiverged
from nbsvd.problems import PROBLEMS
from nbsvd.spectrum import Result
from nbsvd.spectrum.storage import check_writable

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
        summary = (inspect.getdoc(make) or "").splitlines()[0].replace("``", "")
        typer.echo(f"{name:{width}}  {summary}")


@app.command()
def solve(
    problem: Annotated[str, typer.Argument(help="Name of a problem; see 'nbsvd problems'.")],
    k: Annotated[int, typer.Option("--k", "-k", help="Number of components.")] = 6,
    method: Annotated[str, typer.Option(help="sgd")] = "sgd",
    objective: Annotated[str, typer.Option(help="lora | omm")] = "lora",
    nesting: Annotated[str, typer.Option(help="joint | sequential | none")] = "joint",
    steps: Annotated[int | None, typer.Option(help="Limit in steps.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Limit in seconds; 60 if neither is given.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Nodes of one step.")] = None,
    device: Annotated[str, typer.Option(help="auto | cpu | cuda | mps")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of all randomness.")] = 0,
    warm_start: Annotated[str, typer.Option(help="ritz | none")] = "ritz",
    preset: Annotated[str | None, typer.Option(help="paper")] = None,
    domain: Annotated[str | None, typer.Option(help="plane | box, for hydrogen2d.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for result, figure and report.")] = None,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
) -> None:
    """Solve a named problem, print its values, and write them to a folder."""
    try:
        if out is not None:
            check_writable(out / "result.safetensors")
        options = {} if domain is None else {"domain": domain}
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
            seed=seed,
            warm_start=None if warm_start == "none" else warm_start,
            preset=preset,
            progress=progress,
        )
    except ArgumentError as error:
        typer.echo(f"nbsvd: {error}", err=True)
        raise typer.Exit(2) from None
    except TrainingDiverged as error:
        typer.echo(f"nbsvd: {error}", err=True)
        if out is not None and isinstance(error.result, Result):
            write(error.result, out)
        raise typer.Exit(1) from None
    typer.echo(table(result))
    if out is not None:
        write(result, out)
        typer.echo(f"\nWritten to {out}: result.safetensors, figure.png, report.json")


def write(result: Result, folder: Path) -> None:
    """Write result, figure and report into a folder."""
    result.save(folder / "result.safetensors")
    (folder / "report.json").write_text(json.dumps(result.report(), indent=2) + "\n")
    result.plot().savefig(folder / "figure.png", dpi=150)


def table(result: Result) -> str:
    """Return values and errors as lines of text."""
    exact = result.exact.values(result.k).tolist() if result.exact is not None else [None] * result.k
    lines = [f"{'':>4}{'value':>14}{'std. error':>12}{'exact':>14}{'rel. error':>12}"]
    for l, (v, e, x) in enumerate(zip(result.values.tolist(), result.stderr.tolist(), exact, strict=True), 1):
        known = "" if x is None else f"{x:14.8f}{abs(v - x) / abs(x):12.1e}"
        lines.append(f"{l:4}{v:14.8f}{e:12.1e}{known}")
    info = result.info
    lines.append(f"\n{info['steps']} steps, {info['seconds']:.1f} s, {info['threads']} threads, seed {info['seed']}")
    if result.exact is not None:
        errors = result.errors()
        lines.append(f"\n{'':>20}{'trained':>12}{'untrained':>12}")
        lines += [f"{name:>20}{errors[name]:12.1e}{result.control[name]:12.1e}" for name in errors]
    return "\n".join(lines)


if __name__ == "__main__":
    app()
