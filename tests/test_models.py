"""From a folder to a model: which weights are loaded, what is said of a head, and folders that make no sense."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from ftkit import models
from ftkit.config import Recipe
from ftkit.devices import Devices
from ftkit.errors import UserError
from ftkit.heads.labels import log_odds
from ftkit.preparation import default_rates
from ftkit.recipes.labelled import LabelsRecord
from ftkit.training import begin, optimizer

RECORD = LabelsRecord(task="classification", columns={}, head="labels", labels=["a", "b", "c"])


@pytest.fixture
def bert(checkpoint_of: Callable[[str], Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint_of("bert"), tmp_path / "bert"))


def load(
    folder: Path, *, training: bool, allow_pickle: bool = False, record: Any = RECORD, dropout: float | None = None
) -> tuple[Any, list[str]]:
    config = models.load_config(folder, allow_pickle)
    tokenizer = models.load_tokenizer(folder, config)
    loaded = models.load_model(
        folder, config, tokenizer, record, training=training, dropout=dropout, allow_pickle=allow_pickle
    )
    return loaded.model, loaded.notes


def test_a_missing_head_is_made_anew_in_training_and_said(checkpoint_of: Callable[[str], Path]) -> None:
    _, [note] = load(checkpoint_of("distilbert"), training=True)
    assert note.startswith("new head: ")
    assert "classifier.weight" in note


@pytest.mark.parametrize(("family", "layer"), [("bert", "pooler.dense"), ("albert", "pooler")])
def test_a_pooler_that_has_learned_nothing_begins_by_handing_on_the_first_token(
    checkpoint_of: Callable[[str], Path], tmp_path: Path, family: str, layer: str
) -> None:
    folder = Path(shutil.copytree(checkpoint_of(family), tmp_path / family))
    model, notes = load(folder, training=True)
    assert notes == [
        "new head: classifier.bias, classifier.weight begin at random",
        "the pooler, which had learned nothing, begins by handing on the first token",
    ]
    pooler = model.base_model.get_submodule(layer)
    torch.testing.assert_close(pooler.weight.detach(), torch.eye(pooler.in_features))


def factors(folder: Path) -> dict[float, set[str]]:
    """How many times as fast which parameters learn, where a new head is to learn 3 times as fast."""
    config = models.load_config(folder)
    model, _, new = models.load_model(folder, config, models.load_tokenizer(folder, config), RECORD, training=True)
    names = {id(p): name for name, p in model.named_parameters()}
    groups = optimizer(model, 1e-4, 0.0, 3.0, new).param_groups
    return {group["factor"]: {names[id(p)] for p in group["params"]} for group in groups}


def test_a_new_head_alone_learns_faster_and_one_that_has_learned_before_does_not(bert: Path, tmp_path: Path) -> None:
    found = factors(bert)
    assert found.pop(3.0) == {"classifier.weight", "classifier.bias"}
    assert all(name.startswith("bert.") for name in found.pop(1.0)) and not found
    load(bert, training=True)[0].save_pretrained(tmp_path / "learned")
    for path in bert.glob("tokenizer*"):
        shutil.copy(path, tmp_path / "learned")
    assert set(factors(tmp_path / "learned")) == {1.0}


def test_it_is_known_beforehand_whether_a_head_has_learned(bert: Path, tmp_path: Path) -> None:
    assert not models.has_head(models.load_config(bert), RECORD)
    load(bert, training=True)[0].save_pretrained(tmp_path / "learned")
    config = models.load_config(tmp_path / "learned")
    two = LabelsRecord(task="classification", columns={}, head="labels", labels=["a", "b"])
    assert models.has_head(config, RECORD)
    assert not models.has_head(config, two)
    assert not models.has_head(config, SimpleNamespace(head="spans"))
    assert default_rates(config, RECORD)[1:] == (1.0, "for this model's width")
    assert default_rates(config, two)[1] == 10.0


def test_a_head_that_stands_for_other_labels_is_made_anew_although_it_has_as_many(bert: Path, tmp_path: Path) -> None:
    model, _ = load(bert, training=True)
    model.save_pretrained(tmp_path / "learned")
    for path in bert.glob("tokenizer*"):
        shutil.copy(path, tmp_path / "learned")
    same, notes = load(tmp_path / "learned", training=True)
    assert notes == [] and torch.equal(same.classifier.weight, model.classifier.weight)
    for labels in (["d", "e", "f"], ["b", "a", "c"]):
        others = LabelsRecord(task="classification", columns={}, head="labels", labels=labels)
        found, notes = load(tmp_path / "learned", training=True, record=others)
        assert notes[0] == "new head: classifier.bias, classifier.weight begin at random"
        assert not torch.equal(found.classifier.weight, model.classifier.weight)
        assert not models.has_head(models.load_config(tmp_path / "learned"), others)
    shouted = LabelsRecord(task="classification", columns={}, head="labels", labels=["A", "B", "C"])
    assert load(tmp_path / "learned", training=True, record=shouted)[1] == []


def test_the_width_of_a_coupled_model_is_that_of_its_parts() -> None:
    part = transformers.BertConfig(hidden_size=384, num_attention_heads=12)
    config = transformers.EncoderDecoderConfig.from_encoder_decoder_configs(part, part)
    assert default_rates(config, SimpleNamespace(head="text"))[0] == 1e-4


def test_both_tables_of_a_coupled_model_keep_their_embeddings(bert: Path) -> None:
    model, _ = load(bert, training=True, record=SimpleNamespace(head="text"))
    models.freeze(model, "embeddings")
    tables = [part.get_input_embeddings().weight for part in (model.encoder, model.decoder)]
    assert [table.requires_grad for table in tables] == [False, False]


@pytest.mark.parametrize("config", [transformers.FNetConfig(), transformers.XLNetConfig()])
def test_families_that_read_padding_are_refused(config: Any, tmp_path: Path) -> None:
    tokenizer = SimpleNamespace(pad_token_id=0)
    with pytest.raises(UserError, match="depend on the rows beside it"):
        models.load_model(tmp_path, config, tokenizer, RECORD, training=True)


def test_what_cannot_compute_activations_anew_is_told(checkpoint_of: Callable[[str], Path]) -> None:
    recipe = Recipe.model_validate({"hardware": {"gradient_checkpointing": True}})
    fp32 = Devices(rank=0, world=1, device=torch.device("cpu"), precision="fp32")
    with pytest.raises(UserError, match="models of type albert cannot compute activations anew"):
        begin(recipe, RECORD, checkpoint_of("albert"), None, fp32)  # type: ignore[arg-type]


@pytest.mark.parametrize(("labels", "bias"), [(["a", "b"], 0.1), (["a", "b", "c"], 0.0)])
def test_a_pooler_that_has_learned_or_has_a_head_that_has_stays(bert: Path, labels: list[str], bias: float) -> None:
    model, _ = load(bert, training=True)
    learned = torch.randn(model.bert.pooler.dense.weight.shape)
    with torch.no_grad():
        model.bert.pooler.dense.weight.copy_(learned)
        model.bert.pooler.dense.bias[0] = bias
    model.save_pretrained(bert)
    record = LabelsRecord(task="classification", columns={}, head="labels", labels=labels)
    model, notes = load(bert, training=True, record=record)
    assert not any("pooler" in note for note in notes)
    torch.testing.assert_close(model.bert.pooler.dense.weight.detach(), learned)


def test_log_odds_are_those_of_the_labels_shares_and_finite() -> None:
    targets = np.array([[1, 0, 1], [0, 0, 1], [0, 0, 1], [0, 0, 1]], dtype=np.float32)
    np.testing.assert_allclose(log_odds(targets), np.log([1 / 3, 0.5 / 3.5, 3.5 / 0.5]), rtol=1e-6)


@pytest.mark.parametrize("family", ["bert", "distilbert", "t5"])
def test_a_new_head_says_the_first_logits(checkpoint_of: Callable[[str], Path], family: str) -> None:
    logits = np.array([-6.0, 6.0, -6.0], dtype=np.float32)
    record = LabelsRecord(task="classification", columns={}, head="labels", labels=["a", "b", "c"], multi_label=True)
    folder = checkpoint_of(family)
    config = models.load_config(folder)
    tokenizer = models.load_tokenizer(folder, config)
    model = models.load_model(folder, config, tokenizer, record, training=True, first_logits=logits).model
    said = model.eval()(**tokenizer(["any text", "and another one"], return_tensors="pt", padding=True)).logits
    np.testing.assert_allclose(said.detach().numpy(), [logits] * 2, atol=3)


def test_a_missing_head_is_refused_in_prediction(bert: Path) -> None:
    with pytest.raises(UserError, match=r"lacks the weights of its head \(.*it was not trained for this"):
        load(bert, training=False)


def test_a_head_of_other_labels_is_made_anew_in_training_and_said(bert: Path, tmp_path: Path) -> None:
    model, _ = load(bert, training=True)
    model.save_pretrained(tmp_path / "three")
    for path in bert.glob("tokenizer*"):
        shutil.copy(path, tmp_path / "three")
    two = LabelsRecord(task="classification", columns={}, head="labels", labels=["a", "b"])
    _, notes = load(tmp_path / "three", training=True, record=two)
    assert notes == [
        "new head: classifier.bias, classifier.weight begin at random",
        "the pooler, which had learned nothing, begins by handing on the first token",
    ]
    with pytest.raises(UserError):
        load(tmp_path / "three", training=False, record=two)
    assert load(tmp_path / "three", training=False)[1] == []


def test_a_model_that_lacks_its_own_weights_is_refused(bert: Path) -> None:
    weights = load_file(bert / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "layer.1" not in name}
    save_file(kept, bert / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="weights of the model itself"):
        load(bert, training=True)


def test_an_allowed_pickle_gives_the_same_weights_and_is_said(bert: Path) -> None:
    import torch
    from safetensors.torch import load_file

    expected = load(bert, training=True)[0].state_dict()
    torch.save(load_file(bert / "model.safetensors"), bert / "pytorch_model.bin")
    (bert / "model.safetensors").unlink()
    with pytest.raises(UserError, match="a pickle, which can run code"):
        load(bert, training=True)
    model, notes = load(bert, training=True, allow_pickle=True)
    assert "weights read from a pickle" in notes[0]
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())


def test_chat_templates_are_not_passed_on(bert: Path, tmp_path: Path) -> None:
    (bert / "chat_template.jinja").write_text("{{ 'evil' }}")
    models.load_tokenizer(bert, models.load_config(bert)).save_pretrained(tmp_path / "saved")
    assert not any("evil" in path.read_text() for path in (tmp_path / "saved").iterdir())


STRANGE = (None, -1, 0, 1.5, 10**18, "evil", [], {}, [[]], True)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "tokenizer.json"])
def test_a_folder_that_makes_no_sense_is_loaded_or_refused_in_words(bert: Path, name: str) -> None:
    """Keys one by one with other values: Transformers and its tokenizers may raise anything at them."""
    original = json.loads((bert / name).read_text())
    draw = random.Random(0)
    for key in original:
        (bert / name).write_text(json.dumps(original | {key: draw.choice(STRANGE)}))
        try:
            load(bert, training=True)
        except UserError as error:
            assert str(bert) in error.problem


def test_a_t5_stored_in_half_precision_is_computed_in_fp32_and_refuses_to_be_trained_in_fp16(
    checkpoint_of: Callable[[str], Path], tmp_path: Path
) -> None:
    half = shutil.copytree(checkpoint_of("t5"), tmp_path / "half")
    stored = {name: tensor.half() for name, tensor in load_file(half / "model.safetensors").items()}
    save_file(stored, half / "model.safetensors", metadata={"format": "pt"})
    settings = json.loads((half / "config.json").read_text())
    (half / "config.json").write_text(json.dumps(settings | {"dtype": "float16"}))

    model, _ = load(half, training=True)

    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert torch.equal(model.get_input_embeddings().weight, stored["shared.weight"].float())
    fp16 = Devices(rank=0, world=1, device=torch.device("cpu"), precision="fp16")
    config = models.load_config(half)
    assert models.suited(fp16, config).precision == "fp32"  # as where an old GPU has chosen fp16
    with pytest.raises(UserError, match="t5 overflows in fp16"):
        begin(Recipe(), RECORD, half, None, dataclasses.replace(fp16, asked=True))  # type: ignore[arg-type]


@pytest.mark.parametrize("family", ["bert", "albert"])
def test_dropout_reaches_both_halves_of_a_coupled_model(checkpoint_of: Callable[[str], Path], family: str) -> None:
    model, _ = load(checkpoint_of(family), training=True, record=SimpleNamespace(head="text"), dropout=0.0)

    assert {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)} == {0.0}
