"""Data folders in the layouts people have, and rows and files that cannot be used: reported, never lost."""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.dataset import CrystalDataset, Skipped
from model.errors import DataError
from model.table import parse_number

LONG = "is Rutile structured and crystallizes in the tetragonal P4_2/mnm space group."


def write(root: Path, content: str | bytes, names: Sequence[str] = ()) -> Path:
    (root / "cif").mkdir(parents=True, exist_ok=True)
    for name in names:
        (root / "cif" / name).write_text(f"data_{name}\n")
    table = content.encode() if isinstance(content, str) else content
    (root / "description.csv").write_bytes(table)
    return root


def rows(*records: Sequence[str]) -> str:
    stream = io.StringIO()
    csv.writer(stream).writerows(records)
    return stream.getvalue()


def columns(data: CrystalDataset) -> dict[str, tuple[str, str]]:
    return {column.role: (column.name, column.how) for column in data.columns}


def complete(data: CrystalDataset) -> bool:
    """No row is lost and none is counted twice."""
    numbers = [sample.row for sample in data.samples]
    numbers += [skipped.row for skipped in data.skipped if skipped.row is not None]
    return sorted(numbers) == list(range(1, data.rows + 1))


def reasons(data: CrystalDataset) -> dict[str, str]:
    return {skipped.id: skipped.reason for skipped in data.skipped}


def test_the_jarvis_layout(shared: Path) -> None:
    folder = shared / "data/jarvis50"
    data = CrystalDataset.from_directory(folder)
    with (folder / "description.csv").open(newline="", encoding="utf-8") as stream:
        expected = list(csv.DictReader(stream))
    assert len(data) == data.rows == 50
    assert not data.skipped
    assert not data.notes
    assert columns(data) == {
        "id": ("Id", "name"),
        "text": ("Description", "name"),
        "target": ("optb88vdw_bandgap", "content"),
        "file": ("File_Name", "name"),
    }
    for sample, row in zip(data, expected, strict=True):
        assert sample.id == row["Id"]
        assert sample.text == row["Description"]
        assert sample.target == float(row["optb88vdw_bandgap"])
        assert sample.structure == folder / "cif" / row["File_Name"]
    assert sum(sample.target == 0 for sample in data) == 28


def test_the_classification_layout(tmp_path: Path) -> None:
    table = rows(["Id", "target", "description"], ["a", "1", "TiO2 " + LONG], ["b", "0", ""])
    data = CrystalDataset.from_directory(write(tmp_path, table, ["a.cif", "b.cif"]))
    assert [(sample.id, sample.target, sample.text) for sample in data] == [
        ("a", 1.0, "TiO2 " + LONG),
        ("b", 0.0, ""),
    ]
    assert columns(data)["target"] == ("target", "name")
    assert "file" not in columns(data)


MATERIALS_PROJECT = rows(
    ["Id", "Composition", "formation_energy", "band_gap", "Description", "File_Name"],
    ["mp-1", "Ti1 O2", "-3.1", "1.8", LONG, "mp-1.cif"],
    ["mp-2", "Sn1 O2", "-2.0", "", LONG, "mp-2.cif"],
)


def test_the_materials_project_layout_has_no_clear_target(tmp_path: Path) -> None:
    root = write(tmp_path, MATERIALS_PROJECT, ["mp-1.cif", "mp-2.cif"])
    data = CrystalDataset.from_directory(root)
    assert all(math.isnan(sample.target) for sample in data)
    assert "'formation_energy', 'band_gap'" in data.notes[0]
    with pytest.raises(DataError, match=r"'formation_energy', 'band_gap'.*--target-column.*'File_Name'"):
        CrystalDataset.from_directory(root, require_target=True)


@pytest.mark.parametrize("name", ["band_gap", "BAND_GAP", "4"])
def test_a_target_is_chosen_by_name_case_or_position(tmp_path: Path, name: str) -> None:
    root = write(tmp_path, MATERIALS_PROJECT, ["mp-1.cif", "mp-2.cif"])
    data = CrystalDataset.from_directory(root, target_column=name)
    assert data[0].target == 1.8
    assert math.isnan(data[1].target)
    assert columns(data)["target"] == ("band_gap", "given")
    assert data.notes == ("1 samples have no number in the target column 'band_gap'",)
    strict = CrystalDataset.from_directory(root, target_column=name, require_target=True)
    assert [sample.id for sample in strict] == ["mp-1"]
    assert strict.skipped == [Skipped("mp-2", 2, "row", "the target '' is not a finite number")]


@pytest.mark.parametrize("option", ["id_column", "text_column", "target_column"])
def test_a_wrong_name_lists_the_columns(tmp_path: Path, option: str) -> None:
    root = write(tmp_path, MATERIALS_PROJECT, ["mp-1.cif"])
    with pytest.raises(DataError, match=r"No single column 'gap'.*'Id', 'Composition', 'formation_energy'"):
        CrystalDataset.from_directory(root, **{option: "gap"})


def test_one_column_cannot_be_two_things(tmp_path: Path) -> None:
    root = write(tmp_path, MATERIALS_PROJECT, ["mp-1.cif"])
    with pytest.raises(DataError, match="cannot be both text and target"):
        CrystalDataset.from_directory(root, text_column="band_gap", target_column="band_gap")


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (4, 3, 2, 1, 0), (2, 0, 4, 3, 1)])
def test_without_a_header_columns_are_told_by_content(tmp_path: Path, order: tuple[int, ...]) -> None:
    records = [
        ["JVASP-1", "TiO2", "0.5", LONG, "JVASP-1.cif"],
        ["JVASP-2", "SnO2", "na", LONG, "JVASP-2.cif"],
    ]
    table = rows(*[[record[i] for i in order] for record in records])
    data = CrystalDataset.from_directory(write(tmp_path, table, ["JVASP-1.cif", "JVASP-2.cif"]))
    assert [(sample.id, sample.text) for sample in data] == [("JVASP-1", LONG), ("JVASP-2", LONG)]
    assert data[0].target == 0.5
    assert math.isnan(data[1].target)
    found = columns(data)
    assert found["text"] == (f"column {order.index(3) + 1}", "content")
    assert found["target"] == (f"column {order.index(2) + 1}", "content")


def test_unusual_names_and_the_row_numbers_of_pandas(tmp_path: Path) -> None:
    table = rows(["", "material", "gap", "words"], ["0", "a", "1.5", LONG], ["1", "b", "2.5", LONG])
    data = CrystalDataset.from_directory(write(tmp_path, table, ["a.cif", "b.cif"]))
    assert [(sample.id, sample.target) for sample in data] == [("a", 1.5), ("b", 2.5)]
    assert columns(data) == {
        "id": ("material", "content"),
        "text": ("words", "content"),
        "target": ("gap", "content"),
    }


def test_a_name_column_of_formulas_gives_way_to_the_ids(tmp_path: Path) -> None:
    table = rows(["name", "key", "description", "target"], ["TiO2", "a", "x", "1"], ["TiO2", "b", "y", "2"])
    data = CrystalDataset.from_directory(write(tmp_path, table, ["a.cif", "b.cif"]))
    assert [sample.id for sample in data] == ["a", "b"]
    assert columns(data)["id"] == ("key", "content")


def test_file_names_alone_are_enough(tmp_path: Path) -> None:
    table = rows(["File_Name", "Description", "target"], ["a.cif", "x", "1"])
    data = CrystalDataset.from_directory(write(tmp_path, table, ["a.cif"]))
    assert [(sample.id, sample.text) for sample in data] == [("a", "x")]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (["Id", "target"], "No column holds descriptions"),
        (["composition", "description"], "No column holds ids of the structure files"),
    ],
)
def test_a_missing_column_is_an_error(tmp_path: Path, header: list[str], message: str) -> None:
    root = write(tmp_path, rows(header, ["q", "0.5"]), ["a.cif"])
    with pytest.raises(DataError, match=message):
        CrystalDataset.from_directory(root)


@pytest.mark.parametrize(
    "name",
    ["a.cif", "a.CIF", "a.vasp", "POSCAR-a.vasp", "POSCAR_a", "a.poscar", "CONTCAR-a"],
)
def test_files_are_found_by_id(tmp_path: Path, name: str) -> None:
    table = rows(["id", "text", "target"], ["a", "x", "1"])
    data = CrystalDataset.from_directory(write(tmp_path, table, [name, "notes.txt"]))
    assert data[0].structure == tmp_path / "cif" / name
    assert not data.skipped


def test_a_cif_goes_before_another_file_of_the_id_and_both_are_accounted_for(tmp_path: Path) -> None:
    table = rows(["id", "text", "target"], ["a", "x", "1"])
    data = CrystalDataset.from_directory(write(tmp_path, table, ["a.vasp", "a.cif", "b.cif"]))
    assert data[0].structure == tmp_path / "cif" / "a.cif"
    assert [(skipped.id, skipped.row, skipped.stage) for skipped in data.skipped] == [
        ("a.vasp", None, "structure"),
        ("b.cif", None, "structure"),
    ]
    assert complete(data)


@pytest.mark.parametrize("hostile", ["../secret", "/etc/passwd", "..", "sub/a", "sub\\a", "."])
@pytest.mark.parametrize("by", ["id", "File_Name"])
def test_ids_never_leave_the_folder(tmp_path: Path, hostile: str, by: str) -> None:
    root = tmp_path / "data"
    (tmp_path / "secret.cif").write_text("data_secret")
    (tmp_path / "secret").write_text("data_secret")
    record = [hostile, "", "x", "1"] if by == "id" else ["good", hostile, "x", "1"]
    table = rows(["id", "File_Name", "text", "target"], record, ["a", "a.cif", "y", "2"])
    data = CrystalDataset.from_directory(write(root, table, ["a.cif"]))
    assert [sample.id for sample in data] == ["a"]
    assert complete(data)
    for sample in data:
        assert isinstance(sample.structure, Path)
        assert sample.structure.parent == root / "cif"
    (skipped,) = data.skipped
    assert (skipped.row, skipped.stage) == (1, "structure")
    assert "is not a plain file name" in skipped.reason


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.cif").write_text("data_secret")
    root = write(tmp_path / "data", rows(["id", "text", "target"], ["a", "x", "1"], ["b", "y", "2"]), ["b.cif"])
    (root / "cif" / "a.cif").symlink_to(tmp_path / "secret.cif")
    data = CrystalDataset.from_directory(root)
    assert [sample.id for sample in data] == ["b"]
    assert "outside the data folder" in reasons(data)["a"]
    inside = root / "more"
    inside.mkdir()
    (inside / "c.cif").write_text("data_c")
    (root / "cif" / "a.cif").unlink()
    (root / "cif" / "a.cif").symlink_to(inside / "c.cif")
    assert len(CrystalDataset.from_directory(root)) == 2


def test_every_bad_row_has_its_reason(tmp_path: Path) -> None:
    table = rows(
        ["id", "text", "target", "note"],
        ["a", "x", "1", ""],
        ["missing", "x", "1", ""],
        ["", "x", "1", ""],
        ["a", "again", "2", ""],
        ["b", "one, two", "1", "", "stray"],
        ["c"],
        ["d", "", "not a number", ""],
        ["e", "x", "inf", ""],
        ["", "", "", ""],
    )
    names = [f"{name}.cif" for name in "abcde"]
    data = CrystalDataset.from_directory(write(tmp_path, table, names))
    assert [(sample.id, sample.row) for sample in data] == [("a", 1), ("d", 7), ("e", 8)]
    assert data[1].text == ""
    assert math.isnan(data[1].target)
    assert math.isnan(data[2].target)
    assert [(skipped.id, skipped.row, skipped.stage) for skipped in data.skipped] == [
        ("missing", 2, "structure"),
        ("", 3, "row"),
        ("a", 4, "row"),
        ("b", 5, "row"),
        ("c", 6, "row"),
        ("", 9, "row"),
    ]
    stated = [skipped.reason for skipped in data.skipped]
    assert "no structure file 'missing'" in stated[0]
    assert stated[1] == stated[5] == "the id is empty"
    assert stated[2] == "the id is taken by row 1, which is kept"
    assert stated[3] == "the row has 5 fields, expected 4: is a text with a comma unquoted?"
    assert stated[4] == "the row has 1 fields and lacks the text ('text')"
    assert data.rows == 9
    assert complete(data)


def test_an_id_whose_first_row_is_no_good_is_taken_from_the_second(tmp_path: Path) -> None:
    table = rows(
        ["id", "file", "text", "target"],
        ["a", "gone.cif", "x", "1"],
        ["a", "a.cif", "y", "2"],
        ["a", "b.cif", "z", "3"],
    )
    data = CrystalDataset.from_directory(write(tmp_path, table, ["a.cif", "b.cif"]))
    assert [(sample.row, sample.text) for sample in data] == [(2, "y")]
    assert [skipped.row for skipped in data.skipped] == [1, 3]


def test_odd_encodings_and_line_ends(tmp_path: Path) -> None:
    text = 'first line\r\nsecond "quoted" line\u2028with\x0ca form feed, Å'
    spoiled = text.replace("first", "fi\0rst")
    table = b"\xef\xbb\xbf" + rows(["Id", "target", "description"], ["a", "1", spoiled], ["b", "2", "y"]).encode()
    table += b'c,3,"bad \xe5 byte"\r\n\r\n   \r\n'
    data = CrystalDataset.from_directory(write(tmp_path, table, ["a.cif", "b.cif", "c.cif"]))
    assert [sample.text for sample in data] == [text, "y", "bad \ufffd byte"]
    assert data.rows == 3
    assert data.notes == ("1 characters of description.csv are not valid UTF-8",)
    assert columns(data)["id"] == ("Id", "name")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_other_encodings_and_delimiters(tmp_path: Path, encoding: str, delimiter: str) -> None:
    table = delimiter.join(["id", "text", "target"]) + "\n" + delimiter.join(["a", "Å", "1"]) + "\n"
    data = CrystalDataset.from_directory(write(tmp_path, table.encode(encoding), ["a.cif"]))
    assert [(sample.text, sample.target) for sample in data] == [("Å", 1.0)]


def test_old_line_ends(tmp_path: Path) -> None:
    data = CrystalDataset.from_directory(write(tmp_path, b"id,text,target\ra,x,1\rb,y,2", ["a.cif", "b.cif"]))
    assert [sample.text for sample in data] == ["x", "y"]


def test_a_very_long_field_is_read_and_the_limit_of_csv_is_left_alone(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    text = "Ba(1), " * 100_000
    assert len(text) > limit
    data = CrystalDataset.from_directory(write(tmp_path, rows(["id", "text", "target"], ["a", text, "1"]), ["a.cif"]))
    assert data[0].text == text
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize("end", ["", "\n"])
def test_a_quote_that_never_closes_is_an_error_with_its_line(tmp_path: Path, end: str) -> None:
    table = 'id,text,target\na,"x\ny",1\nb,"open,2\nc,z,3' + end
    with pytest.raises(DataError, match=r"quote opened in line 4 of .* is never closed"):
        CrystalDataset.from_directory(write(tmp_path, table, ["a.cif"]))


def test_inches_and_other_stray_quotes_are_kept(tmp_path: Path) -> None:
    data = CrystalDataset.from_directory(write(tmp_path, 'id,text,target\na,5" wafer,1\n', ["a.cif"]))
    assert data[0].text == '5" wafer'


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "is empty"), ("\n \n", "is empty"), ("id,text,target\n", "a header and no rows")],
)
def test_an_empty_table_is_an_error(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        CrystalDataset.from_directory(write(tmp_path, content, ["a.cif"]))


def test_another_layout_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        CrystalDataset.from_directory(tmp_path / "none")
    (tmp_path / "structures").mkdir()
    with pytest.raises(DataError, match=r"to hold description.csv and a folder cif.*got \['structures'\]"):
        CrystalDataset.from_directory(tmp_path)


def test_limit_reads_no_further_than_it_needs_to(tmp_path: Path) -> None:
    names = ["a", "gone", "b", "c", "lost"]
    table = rows(["id", "text", "target"], *[[name, "x", "1"] for name in names])
    root = write(tmp_path, table, ["a.cif", "b.cif", "c.cif", "unasked.cif"])
    data = CrystalDataset.from_directory(root, limit=2)
    assert [sample.id for sample in data] == ["a", "b"]
    assert data.rows == 3
    assert complete(data)
    assert data.notes == ("limit 2: 2 further rows are not read",)
    # Files of rows behind the limit are not reported as files without a row.
    assert list(reasons(data)) == ["gone", "unasked.cif"]
    assert len(CrystalDataset.from_directory(root, limit=100)) == 3
    with pytest.raises(DataError, match="at least 1, got 0"):
        CrystalDataset.from_directory(root, limit=0)


def test_the_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    header, first, second = ["id", "text", "target"], ["a", "x", "1"], ["b", "y", "2"]

    def fingerprint(name: str, *records: list[str], changed: bool = False) -> str:
        root = write(tmp_path / name, rows(header, *records), ["a.cif", "b.cif"])
        if changed:
            (root / "cif" / "a.cif").write_text("data_other\n")
        return CrystalDataset.from_directory(root).fingerprint

    original = fingerprint("0", first, second)
    assert original == fingerprint("1", second, first)
    others = [
        fingerprint("2", first),
        fingerprint("3", ["a", "X", "1"], second),
        fingerprint("4", ["a", "x", "1.5"], second),
        fingerprint("5", first, second, changed=True),
    ]
    assert len({original, *others}) == 5


def test_a_structure_that_is_gone_has_no_fingerprint(tmp_path: Path) -> None:
    root = write(tmp_path, rows(["id", "text", "target"], ["a", "x", "1"]), ["a.cif"])
    data = CrystalDataset.from_directory(root)
    (root / "cif" / "a.cif").unlink()
    with pytest.raises(DataError, match="cannot be read"):
        _ = data.fingerprint


def test_a_single_structure(tmp_path: Path) -> None:
    path = tmp_path / "JVASP-1.cif"
    path.write_text("data_x")
    data = CrystalDataset.from_structure(path, "text")
    assert len(data) == data.rows == 1
    assert (data[0].id, data[0].text, data[0].structure) == ("JVASP-1", "text", path)
    assert math.isnan(data[0].target)
    assert not data.skipped
    named = CrystalDataset.from_structure(str(path), "text", id="mine", target=2)
    assert (named[0].id, named[0].target) == ("mine", 2.0)
    assert len({data.fingerprint, named.fingerprint}) == 2
    with pytest.raises(DataError, match="There is no structure file"):
        CrystalDataset.from_structure(tmp_path / "none.cif", "text")


def test_a_structure_in_memory_is_hashed_by_its_geometry(monkeypatch: pytest.MonkeyPatch) -> None:
    def structure(x: float) -> SimpleNamespace:
        return SimpleNamespace(lattice=np.eye(3), fractional_coordinates=np.array([[x, 0.0, 0.0]]), elements=("Xe",))

    monkeypatch.setattr("model.structure.read_structure", lambda given: given)
    first, same, other = (CrystalDataset.from_structure(structure(x), "t").fingerprint for x in (0.0, 0.0, 0.5))
    assert first == same != other
    assert len(first) == len(hashlib.sha256().hexdigest())


_CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0\x1e"), max_size=12)


@given(st.lists(st.lists(_CELLS, min_size=1, max_size=5), min_size=1, max_size=8), st.booleans())
@settings(max_examples=150, deadline=None)
def test_no_table_loses_a_row(tmp_path_factory: pytest.TempPathFactory, records: list[list[str]], need: bool) -> None:
    root = tmp_path_factory.mktemp("table")
    written = [["id", "text", "target"], ["a", "x", "1"], *records, ["b", "y", "2"]]
    data = CrystalDataset.from_directory(write(root, rows(*written), ["a.cif", "b.cif"]), require_target=need)
    blank = sum(len(record) == 1 and not record[0].strip() for record in records)
    assert data.rows == len(records) - blank + 2
    assert complete(data)
    assert data[0].id == "a"
    assert len({sample.id for sample in data}) == len(data)


@pytest.mark.parametrize(
    ("field", "number"),
    [(" 1.5 ", 1.5), ("-3e-2", -0.03), ("0", 0.0), ("1_0", None), ("nan", None), ("inf", None)],
)
def test_numbers(field: str, number: float | None) -> None:
    found = parse_number(field)
    assert found == number if number is not None else math.isnan(found)
