"""Bare tables and studies as they come: what is read, what is refused, what is remarked."""

import math
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysl import cli
from raysl.analysis.checks import check_sizes, check_units, missing_cells, notes_on
from raysl.analysis.scores import Score, check_scores, choose_arms, read_table

HEADER = "arm,size,seed,metric\n"
GOOD = tuple(Score(arm, n, s, 50.0 + s) for arm in "ab" for n in (1.0, 2.0) for s in (0, 1))


def write(tmp_path, text, name="table.csv"):
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def scores_of(arm, cells):
    """{size: values}: a row for each value, seeds from 0, called as in a file."""
    return [
        Score(arm, size, seed, value, f"row {seed}")
        for size, values in cells.items()
        for seed, value in enumerate(values)
    ]


def contents(scores):
    return [(score.arm, score.size, score.seed, score.value) for score in scores]


def random_scores(rng):
    """Two to four arms, one of them flat, sizes and metrics of any magnitude, missing cells."""
    sizes = np.unique(np.round(np.exp(rng.uniform(0, 13, size=rng.integers(2, 7))), 1))
    arms = ["scratch", "simclr", "barlow twins", "a, b"][: rng.integers(2, 5)]
    scores = []
    for arm in arms:
        for size in [None] if arm == "scratch" else sizes:
            for seed in rng.choice(2**60, size=rng.integers(1, 4), replace=False):
                value = float(rng.normal() * 10 ** rng.uniform(-3, 3))
                scores.append(Score(arm, None if size is None else float(size), int(seed), value))
    return check_scores(scores)


class TestBadScores:
    @pytest.mark.parametrize(
        ("bad", "sentence"),
        [
            (Score("a", 1.0, 1, 3.0, "row 9"), r"Row 9 \(a, size 1, seed 1\) repeats"),
            (Score("a", 4.0, 0, math.nan, "row 9"), r"Row 9 .* no finite metric; fill it in"),
            (Score("a", 4.0, 0, -math.inf, "row 9"), r"Row 9 .* no finite metric; fill it in"),
            (Score("a", -5.0, 0, 1.0, "row 9"), r"Row 9 \(a, size -5, .*a size must be above 0"),
            (Score("a", 0.0, 0, 1.0, "row 9"), r"Row 9 \(a, size 0, .*leave it empty"),
            (Score("a", math.inf, 0, 1.0, "row 9"), r"Row 9 \(a, size inf, .*above 0 and finite"),
            (Score("a", math.nan, 0, 1.0, "row 9"), r"Row 9 \(a, size nan, .*above 0 and finite"),
            (Score("a", None, 7, 1.0, "row 9"), r"rows with a size and without \(.*row 9\)"),
        ],
    )
    def test_each_raises_a_sentence_that_names_the_row(self, bad, sentence):
        with pytest.raises(ValueError, match=sentence):
            check_scores([*GOOD, bad])

    def test_one_arm_is_no_comparison_and_none_is_none_either(self):
        with pytest.raises(ValueError, match="needs two arms, and there is only 'a'; add rows"):
            choose_arms(GOOD[:4])
        with pytest.raises(ValueError, match="needs two arms, and there are no scores"):
            choose_arms([])

    def test_an_unknown_arm_names_its_near_miss(self):
        with pytest.raises(ValueError, match="'simlcr'; did you mean 'simclr'"):
            choose_arms([Score(arm, 1.0, 0, 1.0) for arm in ("simclr", "scratch")], "simlcr")


class TestChoosingTheArms:
    @staticmethod
    def scores(*arms):
        return [Score(arm, 1.0, 0, 1.0) for arm in arms]

    def test_a_usual_baseline_is_recognised(self):
        assert choose_arms(self.scores("simclr", "scratch")) == ("simclr", "scratch")
        assert choose_arms(self.scores("dino", "supervised")) == ("dino", "supervised")

    def test_any_other_pair_must_be_named(self):
        with pytest.raises(ValueError, match="Name the baseline; the arms are byol, simclr"):
            choose_arms(self.scores("simclr", "byol"))
        assert choose_arms(self.scores("simclr", "byol"), baseline="byol") == ("simclr", "byol")

    def test_several_candidates_must_be_named(self):
        with pytest.raises(ValueError, match=r"Name the arm .*'scratch'; it may be byol, simclr"):
            choose_arms(self.scores("simclr", "byol", "scratch"))
        with pytest.raises(ValueError, match="Name the baseline"):
            choose_arms(self.scores("simclr", "random", "scratch"))

    def test_an_arm_is_not_its_own_baseline(self):
        with pytest.raises(ValueError, match="both 'a'"):
            choose_arms(self.scores("a", "b"), "a", "a")


class TestTheSizesOfAPair:
    def test_are_those_that_both_have_and_a_flat_arm_has_all(self):
        full = scores_of("simclr", {500: [1], 1000: [1], 2000: [1]})
        part = scores_of("scratch", {500: [1], 2000: [1], 8000: [1]})
        assert check_sizes([*full, *part], "simclr", "scratch") == (500, 2000)
        flat = scores_of("scratch", {None: [1, 2]})
        assert check_sizes([*full, *flat], "simclr", "scratch") == (500, 1000, 2000)

    @pytest.mark.parametrize(
        ("arm", "baseline", "sentence"),
        [
            ([500, 1000], [500, 2000], "only 500: SimCLR lacks 2,000 and scratch lacks 1,000, so"),
            ([500], [500], "there is only 500: add the rows of another size"),
            ([500], [None], "there is only 500: add the rows of another size"),
            ([500], [1000], "there is none: SimCLR lacks 1,000 and scratch lacks 500, so add"),
            ([1], range(1, 10), "SimCLR lacks 2, 3, 4, 5, 6 and 3 more, so add such a cell"),
            ([None], [None], "Neither SimCLR nor scratch depends on the size"),
        ],
    )
    def test_fewer_than_two_are_refused_with_the_cells_that_would_help(
        self, arm, baseline, sentence
    ):
        scores = scores_of("simclr", {n: [1] for n in arm})
        scores += scores_of("scratch", {n: [1] for n in baseline})
        with pytest.raises(ValueError, match=sentence):
            check_sizes(scores, "simclr", "scratch")


class TestMissingCells:
    def test_are_named_with_arm_size_and_seeds(self):
        scores = scores_of("simclr", {500: [1] * 3, 1000: [1] * 3, 2000: [1] * 2})
        scores += scores_of("scratch", {500: [1] * 3, 2000: [1] * 3})
        assert missing_cells(scores, "simclr", "scratch") == [
            "Missing cells, which the other arm has: scratch at size 1,000 (seeds 0 to 2)."
        ]

    def test_five_are_named_and_the_rest_is_counted(self):
        scores = scores_of("simclr", {n: [1, 2] for n in range(1, 10)})
        scores += scores_of("scratch", {1: [1, 2], 9: [1, 2]})
        (note,) = missing_cells(scores, "simclr", "scratch")
        assert note.count("scratch at size") == 5
        assert note.endswith("scratch at size 6 (seeds 0 and 1) and 2 more.")

    def test_numbers_of_seeds_may_differ_but_a_single_seed_is_remarked(self):
        simclr = scores_of("simclr", {500: [1] * 5, 1000: [1] * 2})
        scratch = scores_of("scratch", {500: [1] * 2, 1000: [1] * 3})
        assert missing_cells(simclr + scratch, "simclr", "scratch") == []
        alone = scores_of("scratch", {500: [1], 1000: [1] * 3})
        assert missing_cells(simclr + alone, "simclr", "scratch") == [
            "A single seed, where other cells have up to 5: scratch at size 500."
        ]

    def test_one_seed_everywhere_and_a_flat_arm_miss_nothing(self):
        simclr = scores_of("simclr", {500: [1], 1000: [1]})
        assert missing_cells(simclr + scores_of("scratch", {None: [1]}), "simclr", "scratch") == []

    def test_other_arms_do_not_count(self):
        scores = [*GOOD, *scores_of("c", {4.0: [1]})]
        assert missing_cells(scores, "a", "b") == []


class TestUnits:
    PERCENTS = scores_of("scratch", {500.0: [61.0, 62.0], 2000.0: [70.0, 71.0]})

    def test_a_table_of_fractions_is_refused_with_its_row(self):
        scores = [Score(s.arm, s.size, s.seed, s.value / 100, s.where) for s in self.PERCENTS]
        with pytest.raises(ValueError, match=r"between 0 and 1 \(row 1: 0.71\).*--point 0.01"):
            check_units(scores)

    def test_another_point_says_what_the_units_are(self):
        scores = [Score(s.arm, s.size, s.seed, s.value / 100, s.where) for s in self.PERCENTS]
        check_units(scores, point=0.01)

    @pytest.mark.parametrize(
        ("size", "seed", "write"), [(500.0, 2, 61), (1000.0, 7, 66), (8000.0, 0, 74)]
    )
    def test_a_fraction_among_percents_is_named_by_its_row(self, size, seed, write):
        # beside other seeds of its cell, between two sizes, beyond the last size
        stray = Score("scratch", size, seed, write / 100, "row 7")
        sentence = rf"Row 7 \(scratch, size .*seed {seed}\): 0.{write} looks .*; write {write}\."
        with pytest.raises(ValueError, match=sentence):
            check_units([*self.PERCENTS, stray])

    def test_further_ones_are_counted(self):
        strays = [Score("scratch", 1000.0, seed, 0.65) for seed in range(3)]
        with pytest.raises(ValueError, match=r"write 65 \(2 more such rows\)"):
            check_units([*self.PERCENTS, *strays])

    @pytest.mark.parametrize(
        "cells",
        [
            {500: [0.8, 1.3], 2000: [2.2, 4.9]},  # a hard task
            {500: [0.8, 0.7], 1000: [5.0, 6.0], 4000: [60.0, 82.0]},  # a curve that climbs
            {500: [0.8, 0.7], 1000: [80.0, 82.0]},  # or jumps
            {500: [45.0, 0.5], 1000: [50.0, 52.0]},  # a trial at chance of 200 classes
            {500: [62.0, 1.0], 1000: [65.0, 0.0]},  # at chance of 100 classes, and at none
            {500: [62.0, 0.2], 1000: [65.0, 66.0]},  # a collapse elsewhere
            {500: [120.0, 310.0], 1000: [0.9, -3.0]},  # no accuracy
            {500: [0.0, 0.0], 1000: [0.0, 0.0]},
        ],
    )
    def test_true_percents_below_one_and_other_metrics_stand(self, cells):
        check_units(scores_of("scratch", {float(n): values for n, values in cells.items()}))


class TestNotes:
    def test_an_arm_that_never_moves_is_remarked_from_four_rows_on(self):
        stuck = scores_of("simclr", {500: [10.0] * 2, 1000: [10.0] * 2})
        moving = scores_of("scratch", {500: [60.0, 61.0], 1000: [64.0, 65.0]})
        assert notes_on(stuck + moving) == [
            "All 4 values of SimCLR are 10; check its rows, unless its trials collapsed."
        ]
        assert notes_on(stuck[:3] + moving) == []

    def test_an_arm_of_fractions_beside_percents_is_remarked_not_refused(self):
        scores = scores_of("simclr", {500: [0.62], 1000: [0.66]})
        scores += scores_of("scratch", {500: [60.0, 61.0], 1000: [64.0]})
        check_units(scores)
        (note,) = notes_on(scores)
        assert note.startswith("All values of SimCLR lie between 0 and 1")
        assert notes_on([*scores, *scores_of("random", {500: [5.0]})]) == []


class TestReadingATable:
    def test_a_csv_with_further_columns_and_a_flat_arm(self, tmp_path):
        text = "note,arm, size,seed,metric\nx,simclr,500,0,70.5\ny,scratch,,0,71\n"
        scores = read_table(write(tmp_path, text))
        assert contents(scores) == [("scratch", None, 0, 71.0), ("simclr", 500.0, 0, 70.5)]

    def test_numbers_in_any_plain_form_and_windows_lines(self, tmp_path):
        text = "\ufeff" + HEADER + 'a,5e3,0,71\r\n"a",5000.5 , 1.0,+7.1E1\r\nb,"500",0,71.\r\n'
        assert contents(read_table(write(tmp_path, text))) == [
            ("a", 5000.0, 0, 71.0),
            ("a", 5000.5, 1, 71.0),
            ("b", 500.0, 0, 71.0),
        ]

    def test_parquet_with_other_column_names(self, tmp_path):
        table = pa.table(
            {"arm": ["a", "b"], "pool_size": [5, None], "seed": [0, 0], "test/knn_top1": [1.0, 2.0]}
        )
        path = tmp_path / "table.parquet"
        pq.write_table(table, path)
        scores = read_table(path, size="pool_size", metric="test/knn_top1")
        assert [(s.arm, s.size) for s in scores] == [("a", 5.0), ("b", None)]

    def test_parquet_under_another_name_and_in_a_folder_called_like_a_partition(self, tmp_path):
        folder = tmp_path / "arm=x"
        folder.mkdir()
        path = folder / "table.data"
        pq.write_table(pa.table({"arm": ["a"], "size": [5], "seed": [0], "metric": [1]}), path)
        assert contents(read_table(path)) == [("a", 5.0, 0, 1.0)]

    def test_rows_are_numbered_as_an_editor_numbers_lines(self, tmp_path):
        with pytest.raises(ValueError, match=r"^Row 5 has no metric"):
            read_table(write(tmp_path, HEADER + "a,500,0,1\n\n\na,500,1,\n"))

    @pytest.mark.parametrize(
        ("rows", "sentence"),
        [
            ("a,500,0,\n", "Row 2 has no metric; fill it in or remove the row"),
            ("a,500,0,nan\n", "Row 2 .* has no finite metric"),
            ("a,500,0,inf\n", "Row 2 .* has no finite metric"),
            ("a,500,0,1\na,500,0,2\n", "Row 3 .* repeats row 2"),
            ("a,many,0,1\n", "Row 2: the size must be a number, not 'many'; fill in a number"),
            ("a,inf,0,1\n", r"Row 2 \(a, size inf, seed 0\): a size must be above 0 and finite"),
            ("a,0,0,1\n", r"Row 2 \(a, size 0, seed 0\): a size must be above 0"),
            ("a,-500,0,1\n", r"Row 2 \(a, size -500, seed 0\): a size must be above 0"),
            ('a,"5,000",0,1\n', "Row 2: the size must be a number, not '5,000'; write 5000"),
            ("a,1'250'000,0,1\n", "not \"1'250'000\"; write 1250000"),
            ("a,5k,0,1\n", "Row 2: the size must be a number, not '5k'; write 5000"),
            ("a,1.2M,0,1\n", "Row 2: the size must be a number, not '1.2M'; write 1200000"),
            ("a,500 images,0,1\n", "Row 2: the size must be a number, not '500 images'; write 500"),
            ("a,500,0.5,1\n", "Row 2: the seed must be a whole number, not '0.5'; number the"),
            ("a,500,,1\n", "Row 2 has no seed"),
            ("a,500,0,good\n", "Row 2: the metric must be a number, not 'good'; fill in a number"),
            ('a,500,0,"71,5"\n', "Row 2: the metric must be a number, not '71,5'; write 71.5"),
            ("a,500,0,71.5%\n", "not '71.5%'; drop the percent sign and write 71.5"),
            ('a,500,0,"71,5 %"\n', "not '71,5 %'; drop the percent sign and write 71.5"),
            ("a,500,0,7k\n", "Row 2: the metric must be a number, not '7k'; fill in a number"),
            ("a,500,0,71.5 (0.3)\n", r"not '71.5 \(0.3\)'; fill in a number or remove the row"),
            (",500,0,1\n", "Row 2 names no arm"),
            ("a,2,000,0,1\n", "row 2 has 5 values and the header 4; .* no thousands commas"),
            ("a,500,0,1\na,500\n", "row 3 has 2 values and the header 4"),
            ("a,1,0,10\na,2,0,10\nb,1,0,10\nb,2,0,10\n", "the metric is 10 in all 4 rows; check"),
            ("", "has no rows"),
        ],
    )
    def test_a_bad_row_is_named(self, tmp_path, rows, sentence):
        with pytest.raises(ValueError, match=sentence) as raised:
            read_table(write(tmp_path, HEADER + rows))
        assert "\n" not in str(raised.value)

    @pytest.mark.parametrize(
        ("content", "sentence"),
        [
            (b"", "table.csv is empty; its first line must name arm, size, seed, metric"),
            (b"\n \n", "table.csv is empty"),
            (HEADER.replace(",", ";") + "a;5;0;71,5\n", "separates its columns with semicolons"),
            (HEADER.replace(",", "\t") + "a\t5\t0\t7\n", "separates its columns with tabs"),
            (
                "sep=;\n" + HEADER.replace(",", ";"),
                "save it with commas between columns and points",
            ),
            (
                "arm,size,seed,metrics\na,1,0,2\n",
                "no column 'metric'; its columns are arm, .*rename",
            ),
            ("arm,size,seed,metric,metric\na,1,0,2,3\n", "has 2 columns 'metric'; keep one"),
            (HEADER.encode() + b"\xe9,1,0,2\n", "table.csv line 2 is not UTF-8 text; save it as"),
            (HEADER.encode("utf-16"), "table.csv line 1 is not UTF-8 text; save it as CSV UTF-8"),
            (b"PK\x03\x04rest", "table.csv is a spreadsheet or an archive; save the table as CSV"),
            (b"PAR1 and no more", "table.csv cannot be read as Parquet"),
            (HEADER + "a" * 200_000, "table.csv line 2 is not CSV"),
            (HEADER + 'a,1,0,"2\nb,1,0,2\n', "table.csv line 3 is not CSV: unexpected end of data"),
        ],
    )
    def test_a_file_that_is_no_table_is_told_apart(self, tmp_path, content, sentence):
        with pytest.raises(ValueError, match=sentence) as raised:
            read_table(write(tmp_path, content))
        assert "\n" not in str(raised.value)

    def test_a_missing_file_a_folder_and_a_broken_one(self, tmp_path):
        with pytest.raises(ValueError, match="There is no table"):
            read_table(tmp_path / "none.csv")
        with pytest.raises(ValueError, match="is a folder; name a CSV or Parquet file in it"):
            read_table(tmp_path)
        with pytest.raises(ValueError, match="cannot be read as Parquet"):
            read_table(write(tmp_path, b"not parquet", "broken.parquet"))

    @pytest.mark.parametrize(
        ("column", "values", "sentence"),
        [
            ("metric", [[1.0], [2.0]], r"column 'metric' holds values of type list<.*one name or"),
            ("arm", [{"name": "a"}, {"name": "b"}], "column 'arm' holds values of type struct<"),
            ("arm", [b"a", b"b"], "column 'arm' holds values of type binary"),
            ("metric", [True, False], "Row 1: the metric must be a number, not True"),
            (
                "metric",
                ["71,5", "70"],
                "Row 1: the metric must be a number, not '71,5'; write 71.5",
            ),
            ("metric", [1.0, None], "Row 2 has no metric"),
            ("size", [5.0, math.nan], r"Row 2 \(b, size nan, seed 0\): a size must be above 0"),
            ("seed", [0, None], "Row 2 has no seed"),
        ],
    )
    def test_a_parquet_column_of_the_wrong_kind_is_named(self, tmp_path, column, values, sentence):
        columns = {"arm": ["a", "b"], "size": [5, 5], "seed": [0, 0], "metric": [1.0, 2.0]}
        path = tmp_path / "table.parquet"
        pq.write_table(pa.table(columns | {column: values, "nested": [[1], [2]]}), path)
        with pytest.raises(ValueError, match=sentence):
            read_table(path)

    @pytest.mark.parametrize("case", range(20))
    def test_rows_in_any_order_of_either_format_give_the_scores_back(self, tmp_path, case):
        rng = np.random.default_rng(case)
        scores = random_scores(rng)
        rows = contents([scores[i] for i in rng.permutation(len(scores))])
        names = ("arm", "size", "seed", "metric")
        columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
        pq.write_table(pa.table(columns), tmp_path / "table.parquet")
        lines = [f'"{a}",{"" if n is None else n},{s},{v!r}\n' for a, n, s, v in rows]
        write(tmp_path, HEADER + "".join(lines))
        for name in ("table.csv", "table.parquet"):
            assert contents(read_table(tmp_path / name)) == contents(scores)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("simclr,500,0,70\nscratch,500,0,60\n", ["at least two sizes", "only 500"]),
        ("simclr,500,0,70\nsimclr,900,0,60\n", ["needs two arms", "'simclr'"]),
        ("simclr,-500,0,70\n", ["Row 2", "size -500", "above 0"]),
        ("simclr,inf,0,70\n", ["Row 2", "size inf", "finite"]),
        ("simclr,5k,0,70\n", ["Row 2", "5k", "write 5000"]),
        ("simclr,500,0,70.1%\n", ["Row 2", "write 70.1"]),
        ("simclr,500,0,\n", ["Row 2", "has no metric"]),
        ("simclr,500,0,70\nsimclr,500,0,71\n", ["Row 3", "repeats row 2"]),
        ("a,1,0,10\na,2,0,10\nb,1,0,10\nb,2,0,10\n", ["10 in all 4 rows"]),
    ],
)
def test_the_command_ends_with_the_sentence_and_writes_nothing(
    rows, words, tmp_path, monkeypatch, capsys
):
    write(tmp_path, HEADER + rows)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["raysl", "threshold", "table.csv"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    captured = capsys.readouterr()
    assert ended.value.code == 2
    assert captured.out == ""
    assert len(captured.err.strip().splitlines()) == 1
    for word in words:
        assert word in captured.err
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]
