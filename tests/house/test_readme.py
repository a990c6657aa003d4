"""The README keeps its word. `python -m tests.house.test_readme` writes the outputs and errors of today."""

from __future__ import annotations

import contextlib
import io
import math
import re
import shlex
import shutil
import subprocess
import sys
from functools import reduce
from pathlib import Path

import pytest

from sim_core import Scenario, catalogue, load_scenario, simulate, summarize
from sim_core.catalogue.calibrations import calibration
from sim_core.command.main import main
from sim_core.evidence.errors import error_tables
from sim_core.price.price import price_of
from sim_core.scenario.profiles import read_profile
from sim_core.scenario.scenario import accelerator_of, model_of
from tests.loops import each
from tests.places import ROOT

README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")
CONSOLE = re.compile(r"```console\n\$ python -m sim_core (.*)\n([^`]*)```")
LEFT_OUT = "..."
LEFT_OUT_OF_FIT = {
    "one accelerator left out": "accelerator left out of the fit",
    "one model left out": "model left out",
    "one campaign left out": "campaign that published the run left out",
}
FIGURE = r"\d[\d,.]*\d|\d"
BENCHMARKS = ROOT / "benchmarks" / "README.md"
FOLDS = {
    "one model left out": "model",
    "one accelerator left out": "accelerator",
    "in sample": "none",
    "one campaign left out": "",  # not by family
    "datasheet calibration": "",
}
TOLERANCE = 0.02  # other processors round otherwise, and a scheduler may then decide otherwise


def test_the_changelog_tells_each_change_once():
    """Oracle: its entries' first lines; merges of a section to which many append double some."""
    lines = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    entries = [line for line in lines if line.startswith("- ")]
    assert [line for line in set(entries) if entries.count(line) > 1] == []


def output_of(command: str) -> list[str]:
    """Return the lines that a command prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main(shlex.split(command)) == 0
    return printed.getvalue().rstrip("\n").split("\n")


def same_word(shown: str, actual: str) -> bool:
    try:
        numbers = [float(word.replace(",", "")) for word in (shown, actual)]
    except ValueError:
        return shown == actual
    return math.isclose(*numbers, rel_tol=TOLERANCE)


def same_line(shown: str, actual: str) -> bool:
    words, actual_words = shown.split(), actual.split()
    return len(words) == len(actual_words) and all(map(same_word, words, actual_words))


def test_the_first_sentence_counts_what_there_is() -> None:
    """Oracle: the presets."""
    assert f"for {len(catalogue.models())} models on\n{len(catalogue.accelerators())} accelerators" in TEXT


def test_lessons_are_as_many_as_it_says() -> None:
    """Oracle: the presets."""
    words = {13: "thirteen", 14: "fourteen", 15: "fifteen", 16: "sixteen"}
    assert f"- **Lessons**: {words[len(catalogue.lessons())]} short ones" in TEXT


@pytest.mark.parametrize(("command", "body"), CONSOLE.findall(TEXT))
def test_commands_print_what_is_shown(command: str, body: str) -> None:
    """Oracle: the command itself; numbers to 2%. A line `...` stands for lines left out."""
    actual = output_of(command)
    shown = body.rstrip("\n").split("\n")
    for line in shown:
        while actual and line != LEFT_OUT and not same_line(line, actual[0]):
            assert LEFT_OUT in shown, f"{line!r} is now {actual[0]!r}"
            actual.pop(0)
        assert actual or line == LEFT_OUT, f"no line of the output is {line!r}"
        actual = actual if line == LEFT_OUT else actual[1:]
    assert not actual or shown[-1] == LEFT_OUT


def test_the_worked_number() -> None:
    """Oracle: the cost model and the simulator, to the digits that the paragraph prints."""
    words = " ".join(TEXT.split())
    assert [text for text in worked() if text not in words] == []


def worked() -> list[str]:
    """Return what the README works out, in its words."""
    one = load_scenario("arrivals=closed", concurrency=1)
    model, part = model_of(one), accelerator_of(one)
    read_gb = 2 * (model.total_params - model.embedding_params) / 1e9
    ways = (one, one.replace(calibration="datasheet"), one.replace(concurrency=64))
    metrics = [summarize(simulate(scenario), scenario)["metrics"] for scenario in ways]
    typical_ms, datasheet_ms, many_ms = (found["tpot_ms"]["p50"] for found in metrics)
    tok_per_s = metrics[2]["output_tok_per_s"]
    assert (part.hbm_gb_per_s, one.prompt_cv, one.weight_dtype) == (3350, 0.5, "bf16")
    return [
        f"in bf16 reads {read_gb:.1f} GB of weights",
        "reads 3.35 TB/s",
        f"{read_gb:.1f} / 3350 s = **{1e3 * read_gb / 3350:.2f} ms** after the last",
        f"gets **{datasheet_ms:.2f} ms** by the datasheet",
        f"**{typical_ms:.2f} ms** from a typical engine",
        f"a token takes {many_ms:.1f} ms and the card gives {tok_per_s:,.0f} tokens a second",
        "with a variation of 0.5",
    ]


def test_the_stated_errors_are_those_of_the_calibration() -> None:
    """Oracle: the table of errors in the calibration's file, to the digits that the paragraph prints."""
    words = " ".join(TEXT.split())
    assert [text for text in errors_stated() if text not in words] == []


def errors_stated() -> list[str]:
    """Return what the README says of the errors of the typical calibration, in its words."""
    errors = calibration("typical").errors["overall"]
    seen = errors["in sample"]
    first = [f"{errors[name]['ttft_pct']:.0f}%" for name in ("in sample", *LEFT_OUT_OF_FIT)]
    return [
        f"fitted to {seen['rows']:,} published runs",
        f"is {seen['tpot_pct']:.1f}% for time per token and {seen['throughput_pct']:.1f}% for throughput",
        *(
            f"with the {words} {errors[name]['tpot_pct']:.1f}% and {errors[name]['throughput_pct']:.1f}%"
            for name, words in LEFT_OUT_OF_FIT.items()
        ),
        f"is weaker: {', '.join(first[:-1])} and {first[-1]}",
    ]


@each(FOLDS)
def test_the_benchmarks_tell_the_errors_of_today(title: str) -> None:
    """Oracle: `presets/validation/errors.toml` by family, the calibration's own table over all."""
    text = BENCHMARKS.read_text(encoding="utf-8")
    assert error_row(title) in text
    assert counted() in " ".join(text.split())


def error_row(title: str) -> str:
    """Return the row of the table of errors of one way to leave rows out of the fit, or none."""
    overall = calibration("typical").errors["overall"][title]
    families = error_tables()[FOLDS[title]] if FOLDS[title] else {}
    cells = [f" {families[name]['tpot_pct']:.1f} " if families else " " for name in ("dense", "moe", "mla")]
    cells += [f" {overall[f'{name}_pct']:.1f} " for name in ("tpot", "ttft", "throughput")]
    return f"| {title} |{'|'.join(cells)}| {overall['rank']:g} |"


def counted() -> str:
    """Return over how many runs the table of errors is, in its words."""
    return f"over {calibration('typical').errors['overall']['in sample']['rows']:,} closed loops"


def block(language: str, beginning: str) -> str:
    """Return the one code block of a language that begins so."""
    (found,) = re.findall(rf"```{language}\n({re.escape(beginning)}.*?)```", TEXT, re.DOTALL)
    return found


def test_the_profile_is_one() -> None:
    """Oracle: the reader of profiles."""
    profile = read_profile(block("toml", "name ="))
    assert len(profile.step_tokens) == len(profile.step_time_ms) == 5
    assert price_of(Scenario(), profile).step.decode_context_s == pytest.approx(5e-8)


def test_the_accelerator_is_one(tmp_path: Path) -> None:
    """Oracle: its name in the list, in a copy of the product that has the file."""
    for folder in ("sim_core", "presets"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    text = block("toml", "# presets/accelerators/")
    path = tmp_path / text.split("\n")[0].removeprefix("# ")
    path.write_text(text, encoding="utf-8")
    code = "from sim_core import Scenario\nfrom sim_core.price.price import price_of\n"
    code += "scenario = Scenario(accelerator={!r})\n"
    code = code.format(path.stem) + "print(price_of(scenario).kv_blocks)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stderr == ""
    assert int(done.stdout) > 0


def test_the_python_example_runs() -> None:
    """Oracle: the names it defines, of the kinds that its comments promise."""
    names: dict = {}
    exec(block("python", "from sim_core import"), names)
    assert len(names["requests"]) == names["scenario"].requests
    assert names["summary"]["metrics"]["tpot_ms"]["p50"] > 0
    assert len(names["table"]) == 6
    assert names["best"]["arrival_per_s"] > 0


def test_links_inside_the_repository() -> None:
    """Oracle: the files."""
    targets = re.findall(r"\]\((?!http)([^)#]+)", TEXT) + re.findall(
        r"`((?:sim_core|presets|tests|docs)/[\w./]+)`", TEXT
    )
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


def refreshed(match: re.Match) -> str:
    """Return a console block with the outputs of today; a shortened one keeps its choice of lines."""
    command, body = match.groups()
    actual, shown = output_of(command), body.rstrip("\n").split("\n")
    if LEFT_OUT in shown:
        first_words = {line.split()[0]: line for line in reversed(actual) if line}
        actual = [first_words.get(line.split()[0], line) if line else "" for line in shown]
    return f"```console\n$ python -m sim_core {command}\n" + "\n".join(actual) + "\n```"


def with_figures(text: str, sentence: str) -> str:
    """Return a text in which a sentence has its figures of today, wherever its lines break."""
    plain = map(re.escape, re.split(FIGURE, sentence))
    pattern = f"(?:{FIGURE})".join(plain).replace(r"\ ", r"\s+")
    figures = iter(re.findall(FIGURE, sentence))
    return re.sub(pattern, lambda found: re.sub(FIGURE, lambda _: next(figures), found[0]), text)


if __name__ == "__main__":
    README.write_text(
        reduce(with_figures, (*worked(), *errors_stated()), CONSOLE.sub(refreshed, TEXT)), encoding="utf-8"
    )
    table = with_figures(BENCHMARKS.read_text(encoding="utf-8"), counted())
    table = re.sub(rf"\| ({'|'.join(FOLDS)}) \|.*", lambda row: error_row(row[1]), table)
    BENCHMARKS.write_text(table, encoding="utf-8")
