"""`model` and `--model`: a configuration as a model of one's own on the command line."""

from __future__ import annotations

import json

import pytest

from sim_core.command.main import main
from tests.command.test_cli import ask, refuse

CONFIG = {
    "model_type": "llama", "hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 8,
    "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 1000, "tie_word_embeddings": False,
    "max_position_embeddings": 4096,
}  # fmt: skip


def test_a_configuration_is_a_model(capsys, tmp_path) -> None:
    """By hand: 8 layers; given by its file, its folder, or its text it is one model, and a key changes it."""
    (tmp_path / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    told = json.loads(ask(capsys, "model", str(tmp_path), "--format", "json"))
    assert told["total_params_b"] * 1e9 == 8 * (512 * (8 + 8 + 4) * 64 + 3 * 512 * 1024) + 2 * 1000 * 512
    assert told["known_as"] == told["assumed"] == [] and told["not_understood"] == []
    runs = [
        json.loads(ask(capsys, "run", "requests=20", *words))["metrics"]
        for words in (
            ("--model", str(tmp_path / "config.json")),
            ("--model", str(tmp_path)),
            ("--set", f"own_model={told['own_model']}"),
            ("--model", str(tmp_path), "--set", "layers=9"),
        )
    ]
    assert runs[0] == runs[1] == runs[2] != runs[3]
    assert "8 layers: 2 key/value heads of 64" in ask(capsys, "model", str(tmp_path))
    assert told["own_model"] in ask(capsys, "model", str(tmp_path), "--format", "csv").replace('"', "")


def test_a_file_names_its_model_by_path(capsys, tmp_path) -> None:
    """Oracle: the same model on the command line; the path counts from the scenario's file."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    one = json.loads(ask(capsys, "run", "requests=20", "--model", str(tmp_path / "mine")))
    for path in ("mine", "mine/config.json"):
        (tmp_path / "scenario.toml").write_text(f'model = "{path}"\nrequests = 20\n', encoding="utf-8")
        assert json.loads(ask(capsys, "run", str(tmp_path / "scenario.toml"))) == one
    (tmp_path / "scenario.toml").write_text('model = "other.json"\n', encoding="utf-8")
    assert "cannot be read" in refuse(capsys, "run", str(tmp_path / "scenario.toml"))


def test_a_preset_may_be_named_as_a_model(capsys) -> None:
    """Oracle: the same as its key set."""
    one, other = (
        ask(capsys, "run", "requests=20", *words)
        for words in (("--model", "qwen3-8b"), ("--set", "model=qwen3-8b"))
    )
    assert one == other


def test_what_a_configuration_leaves_open_is_said_on_standard_error(capsys, tmp_path) -> None:
    """By hand: nothing is said of the vocabulary's matrices, and the checkpoint has four bits."""
    table = {key: value for key, value in CONFIG.items() if key != "tie_word_embeddings"}
    table["quantization_config"] = {"quant_method": "awq", "bits": 4}
    (tmp_path / "mine.json").write_text(json.dumps(table), encoding="utf-8")
    assert main(["run", "requests=20", "--model", str(tmp_path / "mine.json")]) == 0
    said = capsys.readouterr().err
    assert "tie_word_embeddings is not given" in said and "int4" in said and "weight_dtype=native" in said


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read"),
        ("{", "not valid JSON"),
        ('{"hidden_size": "512"}', "num_hidden_layers is missing"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_refused(capsys, tmp_path, content, says) -> None:
    """By hand: one line that names the file."""
    path = tmp_path / "mine.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    for words in (("run", "--model", str(path)), ("model", str(path))):
        error = refuse(capsys, *words)
        assert says in error and ("mine.json" in error or content is None)


def test_formats_in_a_file_beside_the_configuration_are_taken(capsys, tmp_path) -> None:
    """By hand: NVIDIA's checkpoints say in `hf_quant_config.json` that they hold 8-bit floats."""
    (tmp_path / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    beside = tmp_path / "hf_quant_config.json"
    beside.write_text(
        '{"quantization": {"quant_algo": "FP8", "exclude_modules": ["lm_head"]}}', encoding="utf-8"
    )
    assert json.loads(ask(capsys, "model", str(tmp_path), "--format", "json"))["weights"] == "fp8"
    beside.write_text('{"quantization": "FP8"}', encoding="utf-8")
    assert "quantization is 'FP8'; it must be a table" in refuse(capsys, "model", str(tmp_path))
    beside.write_text("[1]", encoding="utf-8")
    assert "hf_quant_config.json" in refuse(capsys, "model", str(tmp_path))
