#!/usr/bin/env python3
"""Checks the generators and the statistics: that an answer is the one that its row asks for, found by other means. Seconds, no data, no ress."""

import json
import random
import re
import unittest
from collections import Counter

import graphs
import lookup
import made
import significance
import texts
import words
from experiments import EXPERIMENTS
from variants import DENSE_MODELS, OURS, TWIN

PARAGRAPHS = [f"paragraph {number} says nothing of interest to anybody at all".split() for number in range(30)]


def draws(count=200):
    return [random.Random(seed) for seed in range(count)]


class Words(unittest.TestCase):
    def test_a_word_is_one_token_by_the_merges_alone(self):
        vocabulary = json.loads(words.tokenizer(made.VOCABULARY))["model"]
        ranks = {tuple(merge): rank for rank, merge in enumerate(vocabulary["merges"])}
        for word in made.VOCABULARY:
            pieces = ["\u0120", *word]
            while True:
                found = [(ranks[pair], place) for place, pair in enumerate(zip(pieces, pieces[1:])) if pair in ranks]
                if not found:
                    break
                _, place = min(found)
                pieces[place : place + 2] = ["".join(pieces[place : place + 2])]
            self.assertEqual(pieces, ["\u0120" + word])
            self.assertIn(pieces[0], vocabulary["vocab"])

    def test_no_two_words_are_the_same(self):
        self.assertEqual(len(set(made.VOCABULARY)), len(made.VOCABULARY))
        self.assertEqual(len(set(words.byte_letters())), 256)

    def test_more_names_than_there_are_is_an_error(self):
        with self.assertRaises(ValueError):
            words.names(10_000)


class Recall(unittest.TestCase):
    def test_each_question_has_the_value_behind_its_key(self):
        for draw in draws():
            row = made.recall(draw, draw.choice([64, 128, 512]))
            self.assertEqual(len(row["words"]), len(row["tags"]))
            asked = [place for place, tag in enumerate(row["tags"]) if tag is not None]
            self.assertEqual(len(asked), 4)
            for place in asked:
                key = row["words"][place]
                first = row["words"].index(key)
                self.assertLess(first, place - 1)
                self.assertEqual(row["words"][first + 1], made.VALUES[row["tags"][place]])
                # Each key stands in its pair and in one question, and these two places are related.
                self.assertIn([first, place], row["relations"])
            self.assertEqual(len(row["relations"]), 4)

    def test_rows_have_their_length_and_fill_it(self):
        for length in (40, 64, 2048):
            self.assertEqual(len(made.recall(random.Random(1), length)["words"]), length)
        with self.assertRaises(ValueError):
            made.recall(random.Random(1), 15)

    def test_values_are_even(self):
        counts = Counter(tag for draw in draws(1000) for tag in made.recall(draw, 64)["tags"] if tag is not None)
        self.assertLess(max(counts.values()) / min(counts.values()), 1.6)

    def test_a_pair_stands_in_the_first_segment_and_is_asked_for_in_the_last_word(self):
        for draw in draws():
            back = draw.randint(1, 8)
            row = made.far(draw, back)
            self.assertEqual(len(row["words"]), 16 * (back + 1))
            place = row["words"].index(made.KEYS[0])
            self.assertLess(place + 1, 16)
            self.assertEqual(row["words"][place + 1], made.VALUES[row["tags"][-1]])
            self.assertEqual(row["words"].count(made.KEYS[0]), 1)


class Lists(unittest.TestCase):
    def value(self, row):
        """By a stack, from the words alone."""
        stack = [[]]
        for word in row:
            if word == made.OPEN:
                stack.append([])
            elif word == made.CLOSE:
                name, *values = stack.pop()
                stack[-1].append(made.OPERATIONS[name](values))
            else:
                stack[-1].append(made.DIGITS.index(word) if word in made.DIGITS else word)
        return stack[0][0]

    def test_a_list_has_its_value_and_depth(self):
        for draw in draws():
            depth = draw.randint(1, 7)
            row = made.listops(draw, depth, 160)
            self.assertEqual(self.value(row["words"][1:-1]), row["tags"][-1])
            levels, deepest = 0, 0
            for word in row["words"]:
                levels += (word == made.OPEN) - (word == made.CLOSE)
                deepest = max(deepest, levels)
            self.assertEqual((deepest, levels), (depth, 0))
            self.assertLessEqual(len(row["words"]), 160)


class Chases(unittest.TestCase):
    def test_steps_of_the_table_lead_to_the_answers(self):
        for draw in draws():
            hops = draw.choice([1, 2, 3, 4])
            row = made.chase(draw, hops)
            steps = {row["words"][place + 1]: row["words"][place + 2] for place, word in enumerate(row["words"]) if word == made.STEP}
            self.assertEqual(len(steps), 5)
            asked = row["words"].index(made.ASK) + 1
            for place, (word, answer) in enumerate(zip(row["words"], row["tags"])):
                if place < asked or place % 2 == asked % 2:
                    self.assertIsNone(answer)
                    continue
                self.assertEqual(row["words"][place - 1], made.DIGITS[hops])
                for _ in range(hops):
                    word = steps[word]
                self.assertEqual(made.NODES[answer], word)
            self.assertEqual(len({answer for answer in row["tags"] if answer is not None}), 5)


class Paths(unittest.TestCase):
    def test_the_answers_are_whether_a_search_of_the_words_finds_a_way(self):
        answers = Counter()
        for draw in draws():
            row = made.reach(draw, draw.choice([8, 16, 32, 64]))
            self.assertEqual(len(row["words"]), len(row["tags"]))
            edges = [tuple(row["words"][place + 1 : place + 3]) for place, word in enumerate(row["words"]) if word == made.STEP]
            source = row["words"][row["words"].index(made.ASK) + 1]
            for word, answer in zip(row["words"], row["tags"]):
                if answer is not None:
                    found = made.hops_between(source, word, edges)
                    self.assertEqual(answer, int(found is not None))
                    self.assertTrue(found is None or found <= 4)
                    answers[answer] += 1
        self.assertEqual(answers[0], answers[1])
        self.assertGreater(answers[0], 300)

    def test_relations_join_the_two_names_of_an_edge_and_the_names_of_a_node(self):
        row = made.reach(random.Random(5), 16)
        for i, j, kind in row["relations"]:
            self.assertIn(row["words"][i], made.NODES)
            self.assertIn(row["words"][j], made.NODES)
            if kind == made.EDGE:
                self.assertTrue(row["words"][i - 1] == made.STEP and j == i + 1)
            else:
                self.assertEqual(kind, made.NAME)
                self.assertEqual(row["words"][i], row["words"][j])

    def test_edges_in_another_order_are_the_same_graph_and_question(self):
        for draw in draws(50):
            row = made.reach(draw, 16)
            other = made.reordered_reach(draw, row)
            self.assertEqual(other["tags"], row["tags"])
            first = row["words"].index(made.ASK)
            self.assertEqual(other["words"][first:], row["words"][first:])
            self.assertEqual(Counter(other["words"]), Counter(row["words"]))
            self.assertNotEqual(other["words"], row["words"])


class Texts(unittest.TestCase):
    def test_each_question_for_a_needle_is_answered_by_its_sentence(self):
        for draw in draws():
            row = texts.needle(draw, PARAGRAPHS, draw.randint(0, 15))
            text = " ".join(row["words"])
            asked = re.findall(r"What is the code of (\w+) \?", text)
            codes = [re.search(rf"The code of {name} is (\w+) \.", text)[1] for name in asked]
            self.assertEqual([texts.NUMBERS[tag] for tag in row["tags"] if tag is not None], codes)
            self.assertEqual(len(set(asked)), 4)
            self.assertEqual(text.count("The code of"), 4)
            self.assertEqual([word for word, tag in zip(row["words"], row["tags"]) if tag is not None], ["?"] * 4)

    def test_related_words_of_a_needle_are_those_of_one_name(self):
        for draw in draws():
            row = texts.needle(draw, PARAGRAPHS, draw.randint(0, 15))
            pairs = {(i, j) for i, j in row["relations"]}
            named = [place for place, word in enumerate(row["words"]) if word in texts.PEOPLE]
            same = {(i, j) for i in named for j in named if i < j and row["words"][i] == row["words"][j]}
            self.assertEqual(pairs, same)
            self.assertGreaterEqual(len(pairs), 4)

    def test_two_hops_go_by_the_friend(self):
        for draw in draws():
            text = " ".join((row := texts.needle(draw, PARAGRAPHS, draw.randint(0, 15), hops=2))["words"])
            friends = re.findall(r"friend of (\w+) \?", text)
            owners = [re.search(rf"The friend of {friend} is (\w+) \.", text)[1] for friend in friends]
            codes = [re.search(rf"The code of {owner} is (\w+) \.", text)[1] for owner in owners]
            self.assertEqual([texts.NUMBERS[tag] for tag in row["tags"] if tag is not None], codes)
            self.assertEqual(len(friends), 4)

    def test_direct_questions_are_mixed_with_those_of_two_hops(self):
        for draw in draws():
            text = " ".join((row := texts.needle(draw, PARAGRAPHS, draw.randint(0, 15), hops=2, direct=2))["words"])
            codes = dict(re.findall(r"The code of (\w+) is (\w+) \.", text))
            owners = dict(re.findall(r"The friend of (\w+) is (\w+) \.", text))
            asked = re.findall(r"What is the code of (the friend of )?(\w+) \?", text)
            self.assertEqual(
                [texts.NUMBERS[tag] for tag in row["tags"] if tag is not None],
                [codes[owners[name] if friend else name] for friend, name in asked])
            self.assertEqual(sum(bool(friend) for friend, _ in asked), 2)

    def test_a_story_ends_with_people_and_things_where_they_went(self):
        kinds = Counter()
        for draw in draws(400):
            facts = draw.choice([1, 2])
            row = texts.story(draw, PARAGRAPHS, draw.randint(0, 15), facts)
            text = " ".join(row["words"])
            where, holder = {}, {}
            for sentence in re.findall(r"(\w+) (?:went to|took) the (\w+) \.", text):
                if sentence[1] in texts.PLACES:
                    where[sentence[0]] = sentence[1]
                else:
                    holder[sentence[1]] = sentence[0]
            asked = re.search(r"Where is (?:the )?(\w+) \?$", text)[1]
            self.assertEqual(texts.PLACES[row["tags"][-1]], where[holder.get(asked, asked)])
            kinds[facts] += 1
        self.assertEqual(set(kinds), {1, 2})

    def test_paragraphs_stand_among_the_sentences_whole_and_as_many_as_asked_for(self):
        row = texts.needle(random.Random(2), PARAGRAPHS, 7)
        self.assertEqual(row["words"].count("paragraph"), 7)
        self.assertEqual([len(piece) for piece in texts.pieces("a " * 150)], [60, 60, 30])
        self.assertEqual([len(piece) for piece in texts.pieces("a " * 130)], [60, 60])


class Tables(unittest.TestCase):
    ROW = {"header": ["name", "town", "year"], "rows": [[f"n{k}", f"t{k % 3}", f"{1990 + k}"] for k in range(6)]}

    def test_a_statement_is_true_where_a_cell_says_so(self):
        for draw in draws():
            table = lookup.statements(draw, self.ROW)
            self.assertEqual([statement["label"] for statement in table["statements"]], [0, 1, 0, 1])
            for statement in table["statements"]:
                column, key, value = re.fullmatch(r"(\w+) of (\w+) is (\w+)", statement["text"]).groups()
                line = next(line for line in table["rows"] if line[0] == key)
                self.assertEqual(line[table["header"].index(column)] == value, bool(statement["label"]))
                self.assertTrue(any(value in line for line in table["rows"]))

    def test_half_of_the_false_statements_name_values_of_other_tables_where_there_are_some(self):
        own = {cell for line in self.ROW["rows"] for cell in line}
        for draw in draws():
            table = lookup.statements(draw, self.ROW, strangers=["t1", "x", "1991", "y"])
            self.assertEqual([statement["label"] for statement in table["statements"]], [0, 1, 0, 1])
            named = [statement["text"].split(" is ")[1] for statement in table["statements"]]
            self.assertEqual([value in own for value in named], [False, True, True, True])
        self.assertEqual(lookup.values(self.ROW)[:3], ["t0", "1990", "t1"])
        alone = lookup.statements(random.Random(1), self.ROW, strangers=["t1"])
        self.assertEqual(alone["statements"][0]["label"], 0)

    def test_rows_in_another_order_are_the_same_rows(self):
        table = lookup.statements(random.Random(1), self.ROW)
        other = lookup.reordered(random.Random(2), table)
        self.assertNotEqual(other["rows"], table["rows"])
        self.assertEqual(sorted(other["rows"]), sorted(table["rows"]))

    def test_a_table_without_a_key_is_of_no_use(self):
        self.assertIsNone(lookup.usable({"header": ["a", "b"], "rows": [["x", "1"], ["x", "2"], ["y", "3"]]}))


class Lexical(unittest.TestCase):
    def test_bm25_is_its_formula(self):
        found = lookup.BM25(["the cat sat", "the dog sat on the mat"], k1=1.2, b=0.75).scores("Cat!")
        # idf = ln(1 + (2 − 1 + .5) / (1 + .5)); a text of 3 words where the mean is 4.5.
        self.assertAlmostEqual(found[0], 0.6931471805 * 2.2 / (1 + 1.2 * (0.25 + 0.75 * 3 / 4.5)), 8)
        self.assertEqual(found[1], 0)

    def test_a_row_has_one_paragraph_that_counts_and_those_that_do_not(self):
        row = {"question": "q", "supporting": ["a", "b"], "paragraphs": [{"title": t, "text": f"text {t}"} for t in "abcde"]}
        found = lookup.supporting(row)
        self.assertEqual([made_row["choices"][0] for made_row in found], ["a : text a", "b : text b"])
        self.assertTrue(all(len(made_row["choices"]) == 4 for made_row in found))
        self.assertEqual(lookup.lexical_accuracy([{"context": "a", "choices": ["a x", "b"]}, {"context": "z", "choices": ["a", "b"]}]), [1, 0.5])


class Graph(unittest.TestCase):
    def nodes(self):
        """Two rings; in each the words are of its own, but half of the nodes have words of no meaning."""
        found = []
        for number in range(60):
            kind, draw = number % 2, random.Random(number)
            own = [10 * kind + draw.randrange(10) for _ in range(3)] if number % 4 < 2 else [20 + draw.randrange(10) for _ in range(3)]
            found.append({"id": number, "words": sorted(set(own)), "label": kind, "neighbors": [(number + 2) % 60, (number - 2) % 60],
                          "split": "train" if number < 30 else "test"})
        return found

    def test_edges_tell_what_words_do_not(self):
        found = graphs.linear_references(self.nodes())
        self.assertLess(found["own words"], 0.95)
        self.assertGreater(found["two hops (SGC)"], 0.97)

    def test_smoothing_is_the_normalised_matrix(self):
        nodes = [{"id": 0, "words": [0], "neighbors": [1]}, {"id": 1, "words": [1], "neighbors": [0, 2]}, {"id": 2, "words": [2], "neighbors": [1]}]
        rows = graphs.smoothed(nodes, graphs.features(nodes), hops=1)
        self.assertAlmostEqual(rows[0][0], 1 / 2)
        self.assertAlmostEqual(rows[0][1], 6**-0.5)
        self.assertNotIn(2, rows[0])


class Experiments(unittest.TestCase):
    def test_every_variant_takes_its_rate_from_a_swept_one_of_its_kind(self):
        for experiment in EXPERIMENTS.values():
            self.assertTrue({OURS, TWIN} <= set(experiment.swept) <= set(experiment.variants(quick=False)), experiment.name)
            for variant in experiment.variants(quick=False):
                source = experiment.swept_for(variant)
                self.assertIn(source, experiment.swept)
                self.assertEqual(source in DENSE_MODELS, variant in DENSE_MODELS)


class Significance(unittest.TestCase):
    def test_t_has_the_values_of_the_tables(self):
        for t, freedom, p in ((12.706, 1, 0.05), (4.303, 2, 0.05), (2.776, 4, 0.05), (2.228, 10, 0.05), (3.169, 10, 0.01), (0, 7, 1)):
            self.assertAlmostEqual(significance.t_probability(t, freedom), p, 4)

    def test_welch_is_as_published(self):
        # Equal variances and sizes: Student's t with 4 degrees. Means 2 and 5, both of variance 1: t = 3.674.
        self.assertAlmostEqual(significance.welch([1, 2, 3], [4, 5, 6]), 0.02131, 4)
        self.assertIsNone(significance.welch([1], [2, 3]))
        self.assertEqual(significance.welch([1, 1], [1, 1]), 1)

    def test_the_bootstrap_pairs_examples(self):
        draw = random.Random(3)
        theirs = [draw.random() < 0.5 for _ in range(400)]
        ours = [right or draw.random() < 0.1 for right in theirs]
        low, high = significance.paired_bootstrap(ours, theirs)
        self.assertGreater(low, 0)
        self.assertLess(high, 0.1)
        with self.assertRaises(ValueError):
            significance.paired_bootstrap([1], [1, 2])

    def test_ahead_is_said_only_where_seeds_and_examples_agree(self):
        sure, unsure = [0.9] * 200, [0.9, 0.1] * 100
        self.assertEqual(significance.verdict([90, 91, 92], [50, 51, 52], sure, [0.5] * 200)[0], "ahead")
        self.assertEqual(significance.verdict([1.0, 1.01, 1.02], [1.5, 1.51, 1.52], [1.0] * 50, [1.5] * 50, lower=True)[0], "ahead")
        self.assertEqual(significance.verdict([50, 51, 52], [90, 91, 92], [0.5] * 200, sure)[0], "behind")
        self.assertIn("no difference", significance.verdict([90, 91, 92], [50, 51, 52], unsure, unsure[::-1])[0])
        self.assertIn("no difference", significance.verdict([90, 20, 92], [50, 51, 52], sure, [0.5] * 200)[0])


if __name__ == "__main__":
    unittest.main()
