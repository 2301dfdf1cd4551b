"""Networks of torchvision: what the conversion keeps, and private steps against one patient at a
time.
"""

import contextlib
import copy
import dataclasses
import pickle
import re
import typing

import numpy as np
import private_arms
import pytest
import torch
from opacus.validators import ModuleValidator
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from helpers.core import claims, errors, files, parameter_models, paths, run_records
from helpers.data import cohorts
from helpers.privacy import clipping, model_validation
from helpers.training import (
    checked_runs,
    frozen_head,
    image_loss,
    known_randomness,
    layer_conversion,
    loop,
    named_networks,
    network_settings,
    networks,
    prediction,
    pretraining,
    self_test,
    start_weights,
    starts,
    torchvision_networks,
    training_set,
    weight_files,
)

NAMES = sorted(torchvision_networks.LAYOUTS)
SMALL = "resnet18"
SLOW = [name if name == SMALL else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]


def network_of(name=SMALL, px=64, channels=1, **settings):
    return named_networks.network(name, ["a", "b"], (px, px), channels=channels, **settings)


def theirs(name, px=64):
    """Torchvision's own network, with affine weights that are no longer 1 and 0."""
    size = {"image_size": px} if name == "vit_b_16" else {}
    model = getattr(models, name)(weights=None, **size)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.LayerNorm)):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    return model


def features_of_theirs(model, images):
    """What torchvision's classifier reads."""
    read = []
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    layers[-1].register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    model(images)
    return read[0]


@pytest.fixture
def films(small_cohort):
    """The small cohort at 64 px."""
    images = np.kron(small_cohort.images, np.ones((1, 4, 4), np.uint8))
    return dataclasses.replace(small_cohort, images=images)


def test_the_names_are_those_of_the_parameter():
    assert {"resnet9", *NAMES} == set(typing.get_args(parameter_models.Network))


@pytest.mark.parametrize("name", NAMES)
def test_every_part_of_a_network_can_be_trained_privately(name):
    network, sizes = network_of(name), {}
    for part in networks.PARTS:
        networks.train_only(network, part)
        assert model_validation.trainable_layers(network)
        sizes[part] = sum(p.numel() for p in network.parameters() if p.requires_grad)
    n_constants = network.centre.numel() + network.scale.numel()
    assert sizes["all"] == sum(p.numel() for p in network.parameters()) - n_constants
    assert sizes["head"] < sizes["norms_and_head"] < sizes["last_block"] < sizes["all"]


@pytest.mark.parametrize("name", NAMES)
def test_conversion_computes_what_torchvision_with_group_norm_computes(name):
    original = theirs(name)
    network = network_of(name, channels=3).eval()
    network.load_state_dict(network.fitted(original.state_dict()))
    affine = {
        key: module.state_dict()
        for key, module in original.named_modules()
        if isinstance(module, nn.BatchNorm2d)
    }
    validated = ModuleValidator.fix(original) if affine else original
    for key, module in validated.named_modules():
        if isinstance(module, nn.GroupNorm):
            module.load_state_dict({part: affine[key][part] for part in ("weight", "bias")})
    images = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        wanted = features_of_theirs(validated.eval(), images)
        torch.testing.assert_close(network.features(images), wanted, rtol=1e-4, atol=1e-4)
        network.train()  # which changes nothing: no statistics, no dropout
        torch.testing.assert_close(network.features(images), wanted, rtol=1e-4, atol=1e-4)


def test_one_channel_computes_what_three_equal_ones_compute():
    weights, image = theirs(SMALL).state_dict(), torch.randn(2, 1, 64, 64)
    one, three = network_of(channels=1), network_of(channels=3)
    for network in (one, three):
        network.load_state_dict(network.fitted(weights))
    torch.testing.assert_close(
        one.features(image), three.features(image.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-4
    )


def test_attention_computes_what_torchs_computes():
    torch.manual_seed(1)
    packed, tokens = nn.MultiheadAttention(12, 3, batch_first=True), torch.randn(2, 5, 12)
    nn.init.normal_(packed.in_proj_bias)
    wanted, _ = packed(tokens, tokens, tokens, need_weights=False)
    got, _ = layer_conversion.convert(packed)(tokens, tokens, tokens, need_weights=False)
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)


def test_what_has_no_conversion_stays_refused_by_name():
    unusual = nn.Sequential(nn.MultiheadAttention(8, 2, batch_first=True, add_bias_kv=True))
    with pytest.raises(errors.InputError, match="MultiheadAttention"):
        model_validation.trainable_layers(layer_conversion.convert(unusual))
    with pytest.raises(errors.InputError, match="GRU"):
        model_validation.trainable_layers(layer_conversion.convert(nn.Sequential(nn.GRU(3, 3))))
    unconverted = nn.Sequential(models.convnext.CNBlock(8, 1.0, 0.0))
    with pytest.raises(errors.InputError, match="CNBlock.*parameters of its own"):
        model_validation.trainable_layers(unconverted)


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(width=16), "WIDTH = None with NETWORK = 'resnet18'; got 16"),
        (dict(head="halves"), "HEAD = 'pooled' with NETWORK = 'resnet18'; got 'halves'"),
        (dict(channels=2), "CHANNELS"),
        (dict(px=16), "32 pixels or more with NETWORK = 'resnet18'; got 16 x 16"),
        (dict(name="vit_b_16", px=72), "a multiple of 16, with NETWORK = 'vit_b_16'; got 72 x 72"),
        (dict(name="resnet9"), "WIDTH for NETWORK = 'resnet9'; got None"),
    ],
)
def test_settings_that_a_network_does_not_have_are_refused(settings, message):
    with pytest.raises(errors.InputError, match=message):
        network_of(**settings)


def test_volumes_need_resnet9():
    with pytest.raises(errors.InputError, match="NETWORK = 'resnet9' for volumes"):
        network_settings.check_network("resnet18", None, "pooled", (16, 32, 32))


def test_random_weights_repeat_for_a_seed_and_leave_the_global_stream_alone():
    before = torch.get_rng_state()
    hashes = [weight_files.weights_hash(network_of(seed=n).state_dict()) for n in (1, 1, 2)]
    assert hashes[0] == hashes[1] != hashes[2]
    assert torch.equal(torch.get_rng_state(), before)


# ---- private steps


def one_patient_at_a_time(network, images, labels, index, clip_norm):
    """Clipped sum and norms by autograd in float64 on each patient alone."""
    exact = copy.deepcopy(network).double()
    trained = [p for p in exact.parameters() if p.requires_grad]
    total, norms = 0.0, torch.zeros(int(index.max()) + 1).double()
    for patient in range(int(index.max()) + 1):
        of_patient = index == patient
        losses = image_loss.image_losses(exact(images[of_patient].double()), labels[of_patient])
        gradient = as_one(torch.autograd.grad(losses.mean(), trained))
        norms[patient] = gradient.norm()
        total = total + gradient * min(1.0, clip_norm / float(norms[patient]))
    return total, norms


def as_one(parts):
    return torch.cat([part.detach().flatten() for part in parts]).double()


@contextlib.contextmanager
def watched(arm):
    """Keep what a step reads and adds up: {images, labels, index, norms, sums}."""
    batch, add, take, seen = arm.data.batch, arm.clipped.add, arm.clipped.take, {}

    def keep_batch(*given):
        seen["images"], seen["labels"] = batch(*given)
        return seen["images"], seen["labels"]

    def keep_norms(losses, index, n_units):
        seen["index"], seen["norms"] = index, add(losses, index, n_units)
        return seen["norms"]

    def keep_sums():
        sums = take()
        seen["sums"] = as_one(sums)  # a copy: noise is added in place
        return sums

    arm.data.batch, arm.clipped.add, arm.clipped.take = keep_batch, keep_norms, keep_sums
    yield seen
    del arm.data.batch, arm.clipped.add, arm.clipped.take


@pytest.mark.parametrize("trained", ["all", "norms_and_head"])
@pytest.mark.parametrize("name", SLOW)
def test_three_private_steps_are_the_clipped_sums_of_one_patient_at_a_time(films, name, trained):
    network = network_of(name, seed=1)
    networks.train_only(network, trained)
    arm = private_arms.private_arm(
        training_set.TrainingSet.of(films, "patient"),
        network,
        epsilon=5.0,
        delta=1e-4,
        clip_norm=0.5,
        epochs=1,
        expected_batch_size=4,
        max_images_per_patient=2,
        physical_batch_size=64,
        views_per_image=1,
        mode="demo",
        seed=4,
        lineage=[],
    )
    # in float32 a ReLU near 0 tips over: an ordinary gradient of resnet50 is then off by 1 %
    with known_randomness.in_float64(network):
        optimizer = torch.optim.NAdam(arm.clipped.parameters, lr=1e-3)
        for _ in range(3):
            with watched(arm) as seen:
                arm.set_gradients()
            read = (seen[part] for part in ("images", "labels", "index"))
            wanted, norms = one_patient_at_a_time(network, *read, clip_norm=0.5)
            torch.testing.assert_close(seen["norms"], norms, rtol=1e-5, atol=0)
            assert float((seen["sums"] - wanted).norm() / wanted.norm()) < 1e-5
            optimizer.step()


def test_a_block_that_adds_in_place_is_refused_unless_it_is_converted():
    block = nn.Sequential(nn.Conv2d(1, 8, 3), models.resnet.BasicBlock(8, 8, norm_layer=of_groups))
    for module in block.modules():
        if hasattr(module, "inplace"):
            module.inplace = False

    def step(model):
        clipped = clipping.ClippedSum(nn.Sequential(model, nn.Flatten(), nn.Linear(288, 1)), 1.0)
        losses = clipped.logits(torch.randn(2, 1, 8, 8))[:, 0]
        return clipped.add(losses, torch.arange(2), 2)

    with pytest.raises(errors.InputError, match="changed.*out = out"):
        step(copy.deepcopy(block))
    assert step(layer_conversion.convert(block)).shape == (2,)


def of_groups(channels):
    return nn.GroupNorm(2, channels)


@pytest.mark.slow
@pytest.mark.parametrize("trained", ["all", "head"])
def test_the_self_test_passes_on_a_converted_network(films, trained):
    network = network_of(seed=1)
    networks.train_only(network, trained)
    data = training_set.TrainingSet.of(films, "patient")
    settings = dict(epsilon=5.0, delta=1e-4, clip_norm=0.5, epochs=2, max_images_per_patient=2)
    settings |= dict(expected_batch_size=8, mode="demo", seed=4, lineage=[])
    arm = private_arms.private_arm(data, network, **settings)
    assert len(self_test.run(arm, films)) == 10


# ---- starts


@pytest.mark.parametrize("name", NAMES)
def test_torchvisions_weights_of_224_pixels_start_a_network_of_64(name, tmp_path, films):
    path = tmp_path / "theirs.pth"
    torch.save(theirs(name, px=224).state_dict(), path)
    start = starts.Start(*weight_files.load_weights(path), weight_files.lineage_of(path))
    assert start.known == [] and start.lineage is None
    model, at_zero = starts.starting_model(
        films, start.weights, start.known, network=name, channels=1, head="pooled", seed=0
    )
    assert at_zero == ["bright", "dull"] and not model.head.weight.any()
    scores = prediction.predict(model, films.images, np.arange(3), 1)
    np.testing.assert_array_equal(scores, np.full((3, 2), 0.5))
    last = torchvision_networks.LAYOUTS[name].last_block[0]
    matched = next(n for n in start.weights if n.startswith(last) and n.endswith("weight"))
    if "in_proj" not in matched and "norm" not in matched:
        assert torch.equal(model.state_dict()[f"trunk.{matched}"].cpu(), start.weights[matched])


def test_densenets_files_have_older_names():
    weights = theirs("densenet121").state_dict()
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", n): w for n, w in weights.items()
    }
    network = network_of("densenet121", channels=3)
    fitted = [weight_files.weights_hash(network.fitted(named)) for named in (weights, old)]
    assert len(set(old) - set(weights)) > 100 and fitted[0] == fitted[1]


def test_weights_of_this_package_start_the_same_network_and_no_other(tmp_path):
    public = network_of(seed=5)
    save_file(public.state_dict(), tmp_path / "ours.safetensors")
    weights, _ = weight_files.load_weights(tmp_path / "ours.safetensors")
    start_weights.start_from(model := network_of(), weights, ["b", "a"], ["a", "b"])
    assert torch.equal(model.trunk.conv1.weight, public.trunk.conv1.weight)
    assert torch.equal(model.head.weight, public.head.weight.flip(0))
    for other in (network_of("densenet121"), networks.resnet9(["a", "b"], width=8)):
        with pytest.raises(errors.InputError, match="NETWORK, WIDTH, CHANNELS and HEAD"):
            start_weights.start_from(other, weights, ["b", "a"], ["a", "b"])
    with pytest.raises(errors.InputError, match="NETWORK, WIDTH, CHANNELS and HEAD"):
        start_weights.start_from(network_of(), theirs("densenet121").state_dict(), [], ["a", "b"])


class _Code:
    def __reduce__(self):
        return print, ("run",)


# protocol 2 is read without a warning
@pytest.mark.parametrize("content", [b"no weights", pickle.dumps(_Code(), 2), None, {"epoch": 3}])
def test_a_file_that_is_no_state_dict_is_refused_and_runs_no_code(tmp_path, content, capsys):
    path = tmp_path / "a.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        torch.save(content, path)
    with pytest.raises(errors.InputError, match="a.pth"):
        weight_files.load_weights(path)
    assert capsys.readouterr().out == ""


def test_the_head_alone_is_trained_on_features_that_public_images_standardise(films):
    network = network_of(seed=2).eval()
    rows = np.arange(20)
    before = prediction.predict(network, films.images, rows, 1)
    assert not network.is_standardised
    with pytest.raises(errors.InputError, match="standardised by public images"):
        starts.train_part(network, "head", "head")
    starts.standardise(network, films, 1)
    np.testing.assert_allclose(
        prediction.predict(network, films.images, rows, 1), before, atol=1e-5
    )
    starts.train_part(network, "head", "head")
    assert frozen_head.is_head_alone(network)
    features = frozen_head.features_of(network, films.images, rows, 1)
    assert 0.3 < float(features.norm(dim=2).mean()) < 3


def test_a_public_model_of_another_network_is_trained_kept_and_started_from(
    films, results, monkeypatch
):
    settings = network_settings.NetworkSettings(
        "public", "none", None, 1, "pooled", "float32", 64, network=SMALL
    )
    table = films.table.assign(patient_id="q" + films.table["patient_id"])
    public = dataclasses.replace(films, name="public", table=table, images=255 - films.images)
    pretrained = dict(epochs=1, learning_rate=1e-3, augmentation="shift", batch_size=16)
    model = pretraining.PublicModel.planned(settings, films, public, **pretrained)
    assert model.parameters["network"] == SMALL and "width" not in model.parameters
    session = model.session()
    for _ in loop.epochs_left(session):
        loop.train_one_epoch(session)
    start = starts.weights_to_start_from("public", films, session, public)
    first, at_zero = starts.starting_model(
        films, start.weights, start.known, **settings.architecture, seed=0
    )
    assert at_zero == [] and first.is_standardised
    model.finish(first, start, session)
    assert network_settings.read("small") == settings
    start = starts.weights_to_start_from("public", films)  # as notebook 03 does
    again, _ = starts.starting_model(
        films, start.weights, start.known, **network_settings.read("small").architecture, seed=7
    )
    hashes = [weight_files.weights_hash(one.state_dict()) for one in (first, again)]
    assert hashes[0] == hashes[1]
    files.write_json(paths.cohort_dir("small") / "record.json", {})
    monkeypatch.setattr(cohorts, "read", lambda name: films)  # which is in memory only
    run = "small-zero_shot"
    scored = run_records.read_record(run), run, run_records.read_predictions(run), films
    assert checked_runs.of_scores(*scored).verdict == claims.HOLDS
