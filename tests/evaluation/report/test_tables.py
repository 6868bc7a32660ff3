"""Numbers of results, in tables: what is ranked, what is refused, and what may stand beside the paper's."""

import pytest

from cogvx.errors import InputError, UsageError
from cogvx.evaluation.report import build_report
from cogvx.evaluation.report.numbers import numbers_of
from cogvx.evaluation.report.paper import paper_tables


def table_of(report, key):
    return next(table for table in report.tables if table.family.key == key)


def cells(report, key):
    """System → column → text, place, and mark beside the paper's."""
    return {
        row.system: {name: (cell.text, cell.rank, cell.mark) for name, cell in row.cells.items()}
        for row in table_of(report, key).rows
    }


def fvd(source, system, value, **fields):
    halves = {side: {"fvd": value / 10, "kvd": 0.01, "n": 5} for side in ("real", "fake")}
    more = {"kvd-lite": value / 1000, "half_against_half": halves}
    return source(system, metric="fvd-lite", value=value, more=more, **fields)


def test_equal_protocols_are_ranked_the_right_way(source):
    report = build_report([fvd(source, "a", 20.0), fvd(source, "b", 10.0), fvd(source, "c", 20.0)])
    assert cells(report, "fvd") == {
        "a": {"fvd-lite": ("20.00", 2, ""), "kvd-lite": ("0.0200", 2, "")},
        "b": {"fvd-lite": ("10.00", 1, ""), "kvd-lite": ("0.0100", 1, "")},
        "c": {"fvd-lite": ("20.00", 2, ""), "kvd-lite": ("0.0200", 2, "")},
    }
    detail = table_of(report, "fvd").rows[0].cells["fvd-lite"].number.detail
    assert detail == "halves: real 2.00, fake 2.00"


def test_one_system_is_not_ranked(source):
    assert cells(build_report([fvd(source, "a", 20.0)]), "fvd")["a"]["fvd-lite"] == ("20.00", None, "")


def test_other_protocols_are_refused_and_named(source):
    sources = [fvd(source, "a", 20.0), fvd(source, "b", 10.0, protocol={"frames": 32, "set": {"clips": 3}})]
    with pytest.raises(UsageError, match=r"FVD-lite, KVD-lite: .* differ in frames \(a: 16, b: 32\)\. .*--no-r"):
        build_report(sources)
    report = build_report(sources, rank=False)
    assert {place for row in cells(report, "fvd").values() for _, place, _ in row.values()} == {None}
    table = table_of(report, "fvd")
    assert table.conflicts[0].settings == {"frames": {"a": 16, "b": 32}}
    assert "FVD-lite, KVD-lite: protocols differ in frames (a: 16, b: 32)" in table.remarks
    assert [row.cells["fvd-lite"].group for row in table.rows] == ["A", "B"]


def test_another_network_is_another_protocol(source):
    with pytest.raises(UsageError, match=r"backend\.sha256"):
        build_report(
            [
                fvd(source, "a", 1.0, backend={"name": "i3d", "sha256": "1"}),
                fvd(source, "b", 1.0, backend={"name": "i3d", "sha256": "2"}),
            ]
        )


def test_what_has_no_better_way_is_never_refused(source):
    values = [{"mean": 0.4}, {"mean": 0.5}]
    sources = [
        source(name, metric="dynamics@cogvx", value=value, protocol={"bins": bins})
        for name, value, bins in zip("ab", values, (12, 6), strict=True)
    ]
    report = build_report(sources)
    assert cells(report, "dynamics")["a"] == {"mean": ("0.400", None, "")}
    assert "bins (a: 12, b: 6)" in " ".join(table_of(report, "dynamics").remarks)


def test_a_system_has_a_number_once(source):
    with pytest.raises(UsageError, match="a has two results of fvd-lite.*NAME=RESULT"):
        build_report([fvd(source, "a", 1.0), fvd(source, "a", 2.0)])
    report = build_report([fvd(source, "a", 1.0), fvd(source, "a", 2.0, protocol={"frames": 8})], rank=False)
    table = table_of(report, "fvd")
    assert [row.system for row in table.rows] == ["a", "a"]
    assert table.conflicts[0].settings == {"frames": {"a (R3)": 16, "a (R4)": 8}}


def test_two_vaes_compare_although_their_weights_differ(source):
    def result(system, decibels, **protocol):
        return source(
            system,
            metric="reconstruction",
            value={"psnr": decibels, "ssim": 0.9, "vmaf": decibels, "flicker": 8.0},
            protocol=dict.fromkeys(("psnr", "ssim", "vmaf", "flicker"), "how")
            | {"frames": 17, "crop": "cover 256x256", "set": {"system": {"name": system, "sha256": system * 64}}}
            | protocol,
            backend={"name": "arithmetic on pixels", "vmaf": "package vmaf-torch 1"},
            more={"measured": {"psnr": 10, "ssim": 7}},
        )

    report = build_report([result("a", 30.0), result("b", 31.0)])
    found = cells(report, "reconstruction")
    assert found["a"]["psnr"] == ("30.00", 2, "≈") and found["b"]["psnr"] == ("31.00", 1, "≈")
    assert found["a"]["vmaf"][:2] == ("30.00", 2) and found["b"]["vmaf"][:2] == ("31.00", 1)
    assert found["a"]["flicker"] == ("8.00", None, "≠")  # the paper's has no unit
    assert {row.cells["ssim"].number.n for row in table_of(report, "reconstruction").rows} == {7}
    assert cells(build_report([result("a", 30.0, frames=33)]), "reconstruction")["a"]["psnr"][2] == "≠"
    with pytest.raises(UsageError, match="PSNR .dB.: .*differ in psnr"):  # SSIM is not concerned
        build_report([result("a", 30.0), result("b", 31.0, psnr="otherwise")])


def test_vbench_is_compared_dimension_by_dimension(source):
    def result(system, dimensions, **rules):
        about = {name: {"metric": name, "videos": 5, "coverage": 1.0} for name in dimensions}
        protocol = {"suite_sha256": "x", "videos": 5, "dimensions": {name: rules.get(name, {}) for name in dimensions}}
        value = dict.fromkeys(dimensions, 0.5)
        return source(system, metric="vbench", value=value, protocol=protocol, more={"dimensions": about})

    one = result("a", ["dynamic_degree", "color"])
    other = result("b", ["dynamic_degree", "scene"])
    assert cells(build_report([one, other]), "generation")["a"]["dynamic_degree"] == ("50.00", 1, "=")
    third = result("c", ["dynamic_degree", "scene"], scene={"frames": 16})
    with pytest.raises(UsageError, match=r"^Scene: .* differ in rule\.frames"):
        build_report([one, other, third])


@pytest.mark.parametrize(
    ("scores", "coverage", "protocol", "mark", "why"),
    [
        ({"human_action": 0.9}, 1.0, {}, "=", "whole suite"),
        ({"human_action@videomae": 0.9}, 1.0, {}, "≠", "through videomae, not VBench's own network"),
        ({"human_action": 0.9}, 0.5, {}, "≠", "50.0 % of the suite"),
        ({"human_action": 0.9}, 1.0, {"videos": 1}, "≠", "1 videos a prompt, not 5"),
    ],
)
def test_only_the_same_protocol_stands_beside_the_papers(vbench, scores, coverage, protocol, mark, why):
    report = build_report([vbench("a", scores, coverage=coverage, **protocol)])
    ((text, _, found),) = cells(report, "generation")["a"].values()
    assert (text, found) == ("90.00", mark)
    assert any(why in remark for remark in table_of(report, "generation").remarks)


def test_the_judge_decides_about_mtscore(source):
    protocol = {"frames": 8, "repeats": 3}
    for metric, mark in (("GPT4o-MTScore", "≈"), ("mtscore@small", "≠")):
        report = build_report([source("a", metric=metric, value=3.0, protocol=protocol)])
        assert cells(report, "generation")["a"][metric] == ("3.00", None, mark)
    report = build_report([source("a", metric="dynamics@cogvx", value={"dynamics_quality@cogvx": 0.6})])
    assert cells(report, "generation")["a"]["dynamics_quality@cogvx"] == ("60.00", None, "≠")


def test_a_study_has_systems_of_its_own(source):
    def row(mean):
        one = {"mean": mean, "interval": [mean - 0.1, mean + 0.1]}
        return {"sensory_quality": one, "total": one, "votes": 30}

    ranking = {"ours": {"rating": 1020.0, "rating_interval": [1000, 1040], "win_rate": 0.6, "votes": 30}}
    value = {"table": {"ours": row(0.7), "theirs": row(0.5)}, "ranking": ranking, "ranking_refused": None}
    report = build_report([source("study", metric="human_rating", value=value, n=60)])
    assert report.systems == ["ours", "theirs"]
    assert cells(report, "human")["ours"] == {"sensory_quality": ("0.700", 1, "≠"), "total": ("0.70", 1, "≠")}
    cell = table_of(report, "human").rows[0].cells["sensory_quality"]
    assert cell.number.n == 30 and cell.number.detail == "[0.600, 0.800]"
    assert cells(report, "human_ranking")["ours"]["rating"] == ("1020", None, "")


def test_counts_that_differ_are_told(source):
    broken = [{"input": "x", "error": "y"}]
    report = build_report([fvd(source, "a", 1.0), fvd(source, "b", 2.0, n=9, failed=broken)])
    remarks = table_of(report, "fvd").remarks
    assert "FVD-lite, KVD-lite: n differs (a: 10, b: 9)" in remarks
    assert "not all clips could be used: b 90.0 %" in remarks


def test_an_unknown_metric_is_shown_and_not_ranked(source):
    report = build_report([source(name, metric="new", value={"x": 0.5, "y": None, "z": "?"}) for name in "ab"])
    assert cells(report, "other") == {name: {"new: x": ("0.500", None, "")} for name in "ab"}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"metric": "vbench", "value": {"scene": "high"}}, "'scene' is no number"),
        ({"metric": "vbench", "value": {"scene": True}}, "'scene' is no number"),
        ({"metric": "vbench", "value": 3.0}, "'value' is no object"),
        ({"metric": "vbench", "value": {"scene": float("inf")}}, "'scene' is not finite"),
        ({"metric": "vbench", "value": {"scene": 10**400}}, "'scene' is not finite"),
        ({"metric": "reconstruction", "value": {"psnr": 1.0}, "more": {"measured": 3}}, "'measured' is no object"),
        ({"metric": "storyboard", "value": 1.0, "more": {"attributes": {"size": 1}}}, "'attributes.size' is no obj"),
        ({"metric": "human_rating", "value": {"table": {"a": {"total": {}}, "b": []}}}, "'value' is no object"),
        (
            {"metric": "human_rating", "value": {"table": {"a": {"total": {"x": 1}}}}},
            "'total' is missing",
        ),
    ],
)
def test_what_is_no_number_is_an_input_error(source, fields, told):
    with pytest.raises(InputError, match=told):
        numbers_of(source("a", **fields))


def test_the_papers_tables_are_those_of_the_paper():
    tables = paper_tables()
    generation = tables["generation"]
    assert len(generation.rows) == 10 and len(generation.columns) == 7
    assert generation.rows["CogVideoX-5B"] == dict(
        zip(generation.columns, (96.8, 55.44, 62.22, 70.95, 24.44, 69.5, 3.36), strict=True)
    )
    assert generation.shown("VideoCrafter-2.0", "dynamic_degree") == "42.50"
    assert generation.shown("T2V-Turbo", "GPT4o-MTScore") == "–" and generation.shown("Pika", "psnr") == ""
    assert tables["vae"].rows["CogVideoX"] == {"flicker": 85.5, "psnr": 29.1}
    assert tables["held_out"].rows["with explicit uniform sampling"]["500"] == 0.116
    # Shares of a test set: each row comes to about 1, and its accuracy is that of TP and TN, as rounded.
    for row in tables["filters"].rows.values():
        assert sum(row[name] for name in ("TP", "FP", "TN", "FN")) == pytest.approx(1, abs=0.021)
        assert row["TP"] + row["TN"] == pytest.approx(row["accuracy"], abs=0.021)


def test_the_papers_tables_can_be_left_out_or_all_be_shown(source):
    sources = [fvd(source, "a", 1.0)]
    assert [table.family.key for table in build_report(sources).tables] == ["fvd"]
    keys = {table.family.key for table in build_report(sources, papers="all").tables}
    assert keys == {"fvd", "generation", "reconstruction", "human", "held_out", "filters"}
    psnr = [source("a", metric="reconstruction", value={"psnr": 1.0})]
    assert table_of(build_report(psnr, papers="none"), "reconstruction").papers == []
