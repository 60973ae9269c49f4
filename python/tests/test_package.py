"""Tests of the package against golden files that Swift tests check as well (Tests/Golden).

    scripts/python.sh              installs the package in an environment of its own and runs all of them
    python -m unittest -v          here, with what is installed; what needs a package that is absent is skipped and named
"""

import hashlib
import importlib.util
import json
import shutil
import tempfile
import unittest
from pathlib import Path

import numpy as np

import ress
from ress.safetensors_file import read_safetensors, write_safetensors

GOLDEN = Path(__file__).resolve().parents[2] / "Tests" / "Golden"
RUNS = GOLDEN / "runs"
ARCHITECTURES = ("ressformer", "transformer")


def needs(*modules: str):
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    return unittest.skipIf(missing, f"{', '.join(missing)} is not installed")


class CheckpointTests(unittest.TestCase):
    """Tests/Golden/runs: what `ress train` and `ress checkpoint export` wrote; ExportTests.swift checks the same files."""

    def test_a_checkpoint_and_its_exports_hold_the_same_values(self):
        for name in ARCHITECTURES:
            places = [ress.load(RUNS / name), ress.load(RUNS / name / "step-00000008"), ress.load(RUNS / f"{name}-hf")]
            for place in places:
                self.assertEqual((place.run, place.step, place.vocabulary), (name, 8, 257))
                self.assertEqual(place.tensors.keys(), places[0].tensors.keys())
                for key, values in place.tensors.items():
                    np.testing.assert_array_equal(values, places[0].tensors[key], key)
            self.assertEqual(places[2].proof["ress_proof.logits"].shape, (16, 257))

    @needs("torch")
    def test_logits_equal_those_of_ress_to_1e_5(self):
        for name in ARCHITECTURES:
            distance = ress.load(RUNS / f"{name}-hf").proof_distance()
            self.assertLess(distance, 1e-5, name)

    @needs("torch")
    def test_a_changed_value_changes_the_logits(self):
        changed = ress.load(RUNS / "ressformer-hf")
        changed.tensors["embed.weight"] = changed.tensors["embed.weight"] * 1.01
        self.assertGreater(changed.proof_distance(), 1e-3)

    def test_a_damaged_file_and_a_file_of_another_program_are_refused_by_name(self):
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "step-00000008"
            shutil.copytree(RUNS / "ressformer" / "step-00000008", copy)
            shard = copy / "shard-0000-of-0002.h5"
            data = bytearray(shard.read_bytes())
            data[len(data) // 2] ^= 1
            shard.write_bytes(data)
            with self.assertRaisesRegex(ress.CheckpointError, "shard-0000-of-0002.h5: its SHA-256 differs"):
                ress.load(copy)
            with self.assertRaisesRegex(ress.CheckpointError, "no checkpoint, run or exported model"):
                ress.load(folder + "/nothing")
            write_safetensors(f"{folder}/other.safetensors", {"x": np.zeros(3, np.float32)}, {"format": "pt"})
            with self.assertRaisesRegex(ress.CheckpointError, "no ress_configuration"):
                ress.load(f"{folder}/other.safetensors")

    def test_rows_of_a_tensor_in_the_shards_of_several_owners_are_one_tensor(self):
        import h5py

        whole = ress.load(RUNS / "ressformer")
        with tempfile.TemporaryDirectory() as folder:
            for borders, complaint in (((0, 100, 200, 257), None), ((0, 100, 201, 257), "embed.weight: its rows from 201")):
                copy = Path(folder) / "-".join(map(str, borders))
                shutil.copytree(RUNS / "ressformer" / "step-00000008", copy)
                manifest = json.loads((copy / "manifest.json").read_text())
                shards = [file for file in manifest["files"] if file["name"].startswith("shard-")]
                for file in shards:
                    with h5py.File(copy / file["name"], "r+") as shard:
                        if "embed" in shard["model"]:
                            del shard["model/embed/weight"]
                for number, (first, end) in enumerate(zip(borders, borders[1:])):
                    with h5py.File(copy / shards[number % len(shards)]["name"], "r+") as shard:
                        # In the second case row 200 is missing.
                        rows = whole.tensors["embed.weight"][first : min(end, 200) if complaint and number == 1 else end]
                        shard[f"model/embed/weight/rows-from-{first:07}"] = rows
                for file in shards:
                    file["sha256"] = hashlib.sha256((copy / file["name"]).read_bytes()).hexdigest()
                (copy / "manifest.json").write_text(json.dumps(manifest))
                if complaint:
                    with self.assertRaisesRegex(ress.CheckpointError, complaint):
                        ress.load(copy)
                    continue
                again = ress.load(copy)
                self.assertEqual(again.tensors.keys(), whole.tensors.keys())
                for key, values in whole.tensors.items():
                    np.testing.assert_array_equal(again.tensors[key], values, key)

    def test_a_written_model_reads_back_the_same(self):
        checkpoint = ress.load(RUNS / "ressformer-hf")
        with tempfile.TemporaryDirectory() as folder:
            checkpoint.write(f"{folder}/x.safetensors")
            again = ress.load(f"{folder}/x.safetensors")
            self.assertEqual(again.configuration, checkpoint.configuration)
            for key, values in checkpoint.tensors.items():
                np.testing.assert_array_equal(again.tensors[key], values)

    def test_damaged_safetensors_raise_ValueError_or_read_and_nothing_else(self):
        data = (RUNS / "ressformer-hf" / "model.safetensors").read_bytes()
        chance = np.random.default_rng(7)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "x.safetensors"
            refused = 0
            for _ in range(300):
                changed = bytearray(data)
                for place in chance.integers(0, 4096, 3):
                    changed[place] = chance.integers(256)
                if chance.random() < 0.3:
                    changed = changed[: chance.integers(len(changed))]
                path.write_bytes(changed)
                try:
                    read_safetensors(path)
                except (ValueError, KeyError, TypeError, AttributeError):  # JSONDecodeError and UnicodeDecodeError are ValueErrors
                    refused += 1
            self.assertGreater(refused, 100)


@needs("torch")
class ModelTests(unittest.TestCase):
    """Tests/Golden/*.json: every switch of docs/model.md; GoldenTests.swift checks the same files."""

    def test_every_golden_case_has_its_logits_and_losses(self):
        import torch

        from ress.model import Variant, VariantConfiguration

        count = 0
        for path in sorted(GOLDEN.glob("*.json")):
            golden = json.loads(path.read_text())
            if "logits" not in golden:
                continue
            count += 1
            c = {k: v for k, v in golden["configuration"].items() if k in VariantConfiguration.__dataclass_fields__}
            model = Variant(VariantConfiguration(**c)).double()
            model.load_state_dict({
                name.replace("/", "."): torch.tensor(t["values"], dtype=torch.float64).reshape(t["shape"])
                for name, t in golden["parameters"].items()})
            tokens = torch.tensor(golden["tokens"])
            inputs, targets = (tokens[:, :-1], tokens[:, 1:]) if "targets" not in golden else (tokens, torch.tensor(golden["targets"]))
            relations = None
            if "relations" in golden:
                relations = torch.zeros(*inputs.shape, inputs.shape[1], model.configuration.relation_kinds, dtype=torch.bool)
                for sequence, triples in enumerate(golden["relations"]):
                    relations[(sequence, *torch.tensor(triples).T)] = True
            output = model(inputs, targets, steps=golden["configuration"].get("evaluation_steps"), relation_BLLU=relations)
            own = output.logits_BLV[0].reshape(-1)
            expected = torch.tensor(golden["logits"]["values"], dtype=torch.float64)
            with self.subTest(path.name):
                self.assertLess(((own - expected).abs().max() / expected.abs().max()).item(), 1e-6)
                for name, value in golden["losses"].items():
                    self.assertAlmostEqual(getattr(output.losses, name).item(), value, delta=1e-6 * max(1, abs(value)))
        self.assertGreaterEqual(count, 56)

    def test_a_bag_is_the_sum_of_its_features_and_absent_ones_add_nothing(self):
        import torch

        model = ress.load(RUNS / "ressformer-hf").module()
        tokens = torch.arange(20)[None]
        bags = torch.stack([tokens, torch.full_like(tokens, -1)], -1)
        with torch.no_grad():
            torch.testing.assert_close(model(bags).logits_BLV, model(tokens).logits_BLV)
            doubled = model.token_vectors(torch.stack([tokens, tokens], -1))
            torch.testing.assert_close(doubled, 2 * model.token_vectors(tokens))


class MetricsTests(unittest.TestCase):
    def test_the_curve_of_a_run_is_read_as_arrays(self):
        metrics = ress.read_metrics(RUNS / "ressformer")
        lines = [json.loads(line) for line in (RUNS / "ressformer" / "metrics.jsonl").read_text().splitlines()]
        steps = [line for line in lines if "loss" in line]
        np.testing.assert_array_equal(metrics.steps["step"], np.arange(1, 9))
        np.testing.assert_array_equal(metrics.steps["loss"], [line["loss"] for line in steps])
        self.assertEqual(metrics.steps["loads"].shape, (8, 4))
        np.testing.assert_array_equal(metrics.evaluations["step"], [4, 8])
        np.testing.assert_array_equal(
            metrics.evaluations["bits_per_byte"], [line["bits_per_byte"] for line in lines if "bits_per_byte" in line])

    def test_absent_values_are_not_a_number_and_a_line_in_writing_is_left_out(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "metrics.jsonl"
            path.write_text(
                '{"step":1,"loss":null,"skipped":"the loss is not finite"}\n{"step":2,"loss":1.5,"time":7.0}\n{"step":3,"lo')
            metrics = ress.read_metrics(folder)
            self.assertEqual(metrics.steps["step"].tolist(), [1, 2])
            np.testing.assert_array_equal(metrics.steps["loss"], [np.nan, 1.5])
            np.testing.assert_array_equal(metrics.steps["time"], [np.nan, 7])
            self.assertEqual(metrics.steps["skipped"].tolist(), ["the loss is not finite", ""])
            self.assertEqual(metrics.evaluations, {})
            path.write_text('{"step":1}\nnonsense\n')
            with self.assertRaisesRegex(ValueError, "metrics.jsonl:2: "):
                ress.read_metrics(path)

    @needs("pandas")
    def test_the_curve_is_a_data_frame(self):
        frame = ress.read_metrics(RUNS / "ressformer").frame()
        self.assertEqual(frame.index.tolist(), list(range(1, 9)))
        self.assertIn("loads_3", frame.columns)
        self.assertEqual(len(ress.read_metrics(RUNS / "ressformer").frame("evaluations")), 2)


class TokenizerTests(unittest.TestCase):
    TEXT = "Grüße, 𝄞 naïve   123\n"

    def test_bytes_are_tokens(self):
        tokenizer = ress.load_tokenizer(RUNS / "ressformer" / "step-00000008")
        self.assertEqual(tokenizer.encode(self.TEXT), list(self.TEXT.encode()))
        self.assertEqual(tokenizer.decode([256, *self.TEXT.encode()]), self.TEXT)

    @needs("tokenizers")
    def test_the_exported_tokenizer_json_gives_the_same_tokens_as_bytes(self):
        from ress.tokenizer import PairTokenizer

        exported = PairTokenizer(RUNS / "ressformer-hf" / "tokenizer.json")
        self.assertEqual(exported.encode(self.TEXT), list(self.TEXT.encode()))
        self.assertEqual(exported.vocabulary, 257)
        self.assertEqual(exported.encode("<|endoftext|>"), list(b"<|endoftext|>"))


class RunTests(unittest.TestCase):
    """Of the wrapper alone, with a program in the command's place that prints what the command prints."""

    def ress(self, folder: str, script: str) -> ress.Ress:
        path = Path(folder) / "ress"
        path.write_text("#!/bin/sh\n" + script)
        path.chmod(0o755)
        return ress.Ress(str(path), "tcp://127.0.0.1:1")

    def test_submitting_passes_the_arguments_and_returns_the_run(self):
        with tempfile.TemporaryDirectory() as folder:
            command = self.ress(folder, f'''echo "$@" >> {folder}/arguments; echo '{{"run": "demo", "id": "0123456789ab"}}' ''')
            run = command.submit("a.yaml", resume=True, workers=2, set={"training.steps": 3, "run": "x"})
            self.assertEqual((run.name, run.identifier), ("demo", "0123456789ab"))
            self.assertEqual(
                Path(folder, "arguments").read_text().split(),
                "submit a.yaml --resume --workers 2 --set training.steps=3 --set run=x --json --coordinator tcp://127.0.0.1:1".split())

    def test_following_yields_events_and_a_failure_raises_what_the_command_printed(self):
        with tempfile.TemporaryDirectory() as folder:
            command = self.ress(folder, '''case $1 in
                logs) echo '{"event": "step", "step": 1}'; echo '{"event": "state", "state": "failed"}'; exit 1;;
                status) echo '{"run": "demo", "id": "0123456789ab", "state": "failed"}';;
                *) echo "no coordinator answers" >&2; exit 1;; esac''')
            events = list(command.run("demo").follow())
            self.assertEqual([event["event"] for event in events], ["step", "state"])
            self.assertEqual(command.run("demo").wait()["state"], "failed")
            with self.assertRaisesRegex(ress.RessError, "no coordinator answers") as raised:
                command.submit("a.yaml")
            self.assertEqual(raised.exception.code, 1)


if __name__ == "__main__":
    unittest.main()
