"""CIF files: against jarvis-tools and pymatgen, in the dialects that programs write, and broken."""

from __future__ import annotations

import contextlib
import io
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.cif import read_cif
from model.cif_syntax import parse_cif
from model.errors import StructureError
from model.structure import read_structure

HEAD = """data_test
_cell_length_a 4.0
_cell_length_b 4.0
_cell_length_c 6.0
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 120
"""
SITES = """loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
"""
P1 = "loop_\n_symmetry_equiv_pos_as_xyz\n'x, y, z'\n"
PLAIN = HEAD + P1 + SITES + "Zn1 0.333333 0.666667 0.0\nZn2 0.666667 0.333333 0.5\nO1 0.333333 0.666667 0.38\n"


def positions(text: str) -> dict[str, list[list[float]]]:
    """Fractional coordinates by element, wrapped, rounded and sorted."""
    raw = read_cif(text)
    found: dict[str, list[list[float]]] = {}
    for symbol, point in zip(raw.elements, np.asarray(raw.fractional), strict=True):
        found.setdefault(symbol, []).append((point % 1).round(5).tolist())
    return {symbol: sorted(points) for symbol, points in found.items()}


def jarvis_read(path):
    from jarvis.core.atoms import Atoms

    with contextlib.redirect_stdout(io.StringIO()):
        return Atoms.from_cif(str(path), use_cif2cell=False, get_primitive_atoms=False)


def assert_bits_of_jarvis(path):
    structure, atoms = read_structure(path), jarvis_read(path)
    np.testing.assert_array_equal(structure.lattice, atoms.lattice_mat)
    np.testing.assert_array_equal(structure.fractional_coordinates, atoms.frac_coords)
    assert list(structure.elements) == list(atoms.elements)


def test_jarvis50_is_read_as_jarvis_reads_it(shared):
    paths = sorted((shared / "data/jarvis50/cif").glob("*.cif"))
    assert len(paths) == 50
    for path in paths:
        assert_bits_of_jarvis(path)


def symmetric_cif(name, tmp_path):
    """A conventional cell written by pymatgen with its symmetry operations: path and number of atoms."""
    core = pytest.importorskip("pymatgen.core", reason="pymatgen is not installed")
    from pymatgen.io.cif import CifWriter

    a = {"rocksalt": 5.64, "fluorite": 5.463, "diamond": 3.567, "wurtzite": 3.25, "calcite": 4.99}[name]
    cell = core.Lattice.cubic(a)
    if name == "rocksalt":
        crystal = core.Structure.from_spacegroup("Fm-3m", cell, ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    elif name == "fluorite":
        crystal = core.Structure.from_spacegroup("Fm-3m", cell, ["Ca", "F"], [[0, 0, 0], [0.25, 0.25, 0.25]])
    elif name == "diamond":
        crystal = core.Structure.from_spacegroup("Fd-3m", cell, ["C"], [[0, 0, 0]])
    elif name == "wurtzite":
        cell = core.Lattice.hexagonal(a, 5.207)
        sites = [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.382]]
        crystal = core.Structure.from_spacegroup("P6_3mc", cell, ["Zn", "O"], sites)
    else:
        cell = core.Lattice.hexagonal(a, 17.06)
        sites = [[0, 0, 0], [0, 0, 0.25], [0.257, 0, 0.25]]
        crystal = core.Structure.from_spacegroup("R-3c", cell, ["Ca", "C", "O"], sites)
    path = tmp_path / f"{name}.cif"
    CifWriter(crystal, symprec=0.01).write_file(path)
    return path, crystal


@pytest.mark.parametrize("name", ["rocksalt", "fluorite", "diamond"])
def test_operations_are_applied_in_the_order_of_jarvis(name, tmp_path):
    """To the last bit: jarvis adds the number of the operation to x before it takes the remainder."""
    path, crystal = symmetric_cif(name, tmp_path)
    assert path.read_text().count("\n  ") > 48
    assert_bits_of_jarvis(path)
    assert len(crystal) == len(read_structure(path).elements)


@pytest.mark.parametrize("name", ["wurtzite", "calcite"])
def test_special_positions_are_not_doubled(name, tmp_path):
    """Thirds do not come out even in eight digits; jarvis then reads more atoms than there are."""
    path, crystal = symmetric_cif(name, tmp_path)
    structure = read_structure(path)
    from pymatgen.analysis.structure_matcher import StructureMatcher
    from pymatgen.core import Structure

    ours = Structure(structure.lattice, list(structure.elements), structure.fractional_coordinates)
    assert len(ours) == len(crystal)
    assert StructureMatcher(primitive_cell=False, scale=False).fit(ours, crystal)


def test_six_digits_on_special_positions(tmp_path):
    """P-3m1 with a site at 1/3 2/3 z to four digits: two images, not twelve."""
    operations = ["x,y,z", "-y,x-y,z", "-x+y,-x,z", "y,x,-z", "x-y,-y,-z", "-x,-x+y,-z"]
    operations += [",".join(negative(part) for part in text.split(",")) for text in operations]
    text = HEAD + "loop_\n_symmetry_equiv_pos_as_xyz\n" + "\n".join(operations) + "\n"
    text += SITES + "V1 0 0 0\nSe1 0.3333 0.6667 0.252\n"
    assert positions(text) == {"V": [[0, 0, 0]], "Se": [[0.3333, 0.6667, 0.252], [0.6667, 0.3333, 0.748]]}


def negative(part: str) -> str:
    """``x-y`` to ``-x+y``."""
    flipped = part.translate(str.maketrans("+-", "-+"))
    return flipped if flipped[0] in "+-" else "-" + flipped


DIALECTS = {
    "capitals": P1.replace("x, y, z", "X, Y, Z"),
    "numbered": "loop_\n_symmetry_equiv_pos_site_id\n_symmetry_equiv_pos_as_xyz\n1 'x, y, z'\n",
    "number last": "loop_\n_symmetry_equiv_pos_as_xyz\n_symmetry_equiv_pos_site_id\n'x,y,z' 1\n",
    "unquoted with spaces": "loop_\n_symmetry_equiv_pos_site_id\n_symmetry_equiv_pos_as_xyz\n1 x, y, z\n",
    "plus signs": 'loop_\n_space_group_symop_operation_xyz\n"+x,+y,+z"\n',
    "no loop": "_space_group_symop_operation_xyz 'x,y,z'\n",
    "space group only": "_symmetry_space_group_name_H-M 'P 1'\n_symmetry_Int_Tables_number 1\n",
    "nothing": "",
    "comment": "# generated by hand\n" + P1 + "\n#\n\n",
    "text field": P1 + "_publ_section_title\n;\nloop_ of atoms\n_atom_site_label\n;\n",
    "aniso loop": P1 + "loop_\n_atom_site_aniso_label\n_atom_site_aniso_U_11\nZn1 0.01\nZn2 0.01\nO1 0.02\n",
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_dialects_of_symmetry(dialect):
    assert positions(PLAIN.replace(P1, DIALECTS[dialect])) == positions(PLAIN)


@pytest.mark.parametrize(
    "text",
    [
        PLAIN.replace("Zn2", "\n\nZn2"),
        PLAIN.replace("0.5\n", "0.5 # comment\n"),
        PLAIN.replace("4.0", "4.0(3)").replace("0.38", "0.380(12)"),
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("Zn1", "'Zn1'"),
        PLAIN.replace("Zn1 ", "Zn1\n"),
        PLAIN.replace("data_test", "CIF file written by a program.\ndata_test"),
        PLAIN.replace("loop_", "LOOP_").replace("_atom_site_label", "_Atom_Site_Label"),
        PLAIN + "loop_\n_atom_site_aniso_label\n_atom_site_aniso_U_11\nZn1 0.01\n",
        PLAIN + "#END\n",
        "data_global\n_journal_year 1999\n" + PLAIN,
    ],
    ids=[
        "blank lines", "comment", "uncertainties", "windows", "quoted", "rows over lines", "heading",
        "capitals", "aniso", "end mark", "global block",
    ],
)  # fmt: skip
def test_dialects_of_the_rest(text):
    assert positions(text) == positions(PLAIN)


def test_elements_by_type_symbol_or_label():
    rows = "Wat1 O2- 0 0 0\nM1 Fe3+ 0.5 0 0\nD1 D 0.3 0.3 0.3\nCA1 CA 0.7 0 0.5\n"
    text = HEAD + P1 + SITES.replace("label\n", "label\n_atom_site_type_symbol\n") + rows
    assert read_cif(text).elements == ["O", "Fe", "D", "Ca"]
    labels = HEAD + P1 + SITES + "Fe1A 0 0 0\nO2' 0.5 0 0\nN_3 0.3 0.3 0.3\nC 0.7 0 0.5\n"
    assert read_cif(labels).elements == ["Fe", "O", "N", "C"]


def test_dummy_atoms_are_left_out():
    text = HEAD + P1 + SITES + "_atom_site_calc_flag\nO1 0 0 0 d\nX1 0.5 0.5 0.5 dum\n"
    assert read_cif(text).elements == ["O"]


def test_sites_that_list_the_images_too_are_merged():
    """A file that lists all atoms and still carries its operations."""
    text = HEAD + "loop_\n_symmetry_equiv_pos_as_xyz\n'x,y,z'\n'-x,-y,-z'\n" + SITES
    text += "Na1 0.2 0.1 0.3\nNa2 0.8 0.9 0.7\nCl1 0 0 0.5\n"
    assert positions(text) == {"Na": [[0.2, 0.1, 0.3], [0.8, 0.9, 0.7]], "Cl": [[0, 0, 0.5]]}


def test_cartesian_sites_of_an_orthogonal_cell():
    text = HEAD.replace("120", "90") + P1 + SITES.replace("fract", "Cartn") + "Zn1 1.0 2.0 3.0\n"
    np.testing.assert_allclose(read_cif(text).fractional, [[0.25, 0.5, 0.5]], atol=1e-9)


REFUSED = {
    "occupancy": (
        HEAD + P1 + SITES + "_atom_site_occupancy\nFe1 0 0 0 0.5\nNi1 0 0 0 0.5\n",
        "fully occupied sites, got occupancy 0.5 at Fe1",
    ),
    "no cell": (PLAIN.replace("_cell_length_c 6.0\n", ""), "no _cell_length_c"),
    "cell unknown": (PLAIN.replace("6.0", "?"), r"expected _cell_length_c as a number, got '\?'"),
    "cell negative": (PLAIN.replace("6.0", "-6.0"), "positive lengths"),
    "cell nan": (PLAIN.replace("6.0", "nan"), "expected _cell_length_c as a number"),
    "no sites": (HEAD + P1, "a loop of atom sites"),
    "empty loop": (HEAD + P1 + SITES, "cut short"),
    "ragged row": (PLAIN.removesuffix("0.38\n"), "rows of 4 values .* cut short"),
    "rows missing": (PLAIN + "_chemical_formula_sum 'Zn2 O2'\n", "the atoms of 'Zn2 O2', got 3 atoms"),
    "coordinate unknown": (PLAIN.replace("0.38", "?"), r"a coordinate of O1 as a number, got '\?'"),
    "no z": (PLAIN.replace("fract_z", "thermal"), "no _atom_site_fract_z"),
    "no labels": (PLAIN.replace("_atom_site_label", "_atom_site_note"), "_atom_site_type_symbol"),
    "unclear label": (PLAIN.replace("O1", "OW1"), "label that starts with its element"),
    "label not an element": (PLAIN.replace("O1", "1O"), "label that starts with its element"),
    "group without operations": (
        PLAIN.replace(P1, "_symmetry_space_group_name_H-M 'P 63 m c'\n"),
        "operations of space group 'P 63 m c'",
    ),
    "bad operation": (PLAIN.replace("x, y, z", "x, y, q"), "a symmetry operation such as"),
    "short operation": (PLAIN.replace("x, y, z", "x, y"), "a symmetry operation such as"),
    "stretching operation": (PLAIN.replace("x, y, z", "2x, y, z"), "keeps the lattice"),
    "no group": (
        PLAIN.replace(P1, "loop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\nx+0.137,y,z\n"),
        "operations that form a group",
    ),
    "two structures": (PLAIN + PLAIN.replace("data_test", "data_other"), r"got 2 \(test, other\)"),
    "oblique cartesian": (PLAIN.replace("fract", "Cartn"), "oblique angles"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_crystal_is_refused(case):
    text, words = REFUSED[case]
    with pytest.raises(StructureError, match=words):
        read_cif(text)


def test_every_cut_of_a_file_is_read_or_refused(tmp_path):
    """No cut raises anything but StructureError, and none that drops an atom of a P1 file passes."""
    text = PLAIN.replace("data_test\n", "data_test\n_chemical_formula_sum 'Zn2 O'\n")
    path = tmp_path / "cut.cif"
    read = 0
    for length in range(len(text)):
        path.write_text(text[:length])
        with contextlib.suppress(StructureError):
            assert read_structure(path).number_of_atoms == 3
            read += 1
    assert read < 10


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="_;'\"#\n \tabcdxyzloop_atsie1230.,-()", max_size=300))
def test_any_text_is_read_or_refused(text):
    for content in (text, HEAD + P1 + SITES + text, PLAIN.replace("x, y, z", text)):
        with contextlib.suppress(StructureError):
            raw = read_cif(content)
            assert len(raw.elements) == len(np.asarray(raw.fractional))


@pytest.mark.parametrize("line", ["'a " * 60_000, "' " * 60_000, "x" * 200_000, "'\"" * 60_000])
def test_long_lines_do_not_take_long(line):
    begin = time.process_time()
    assert parse_cif("data_long\n_note " + line)[0].name == "long"
    assert time.process_time() - begin < 2


def test_operations_that_are_no_group_do_not_run_on():
    """jarvis-tools reads ``2 x,-y,z`` as 2x and adds atoms for as long as it is let."""
    loop = "loop_\n_symmetry_equiv_pos_site_id\n_symmetry_equiv_pos_as_xyz\n1 x,y,z\n2 x,-y,z\n"
    text = HEAD.replace("120", "90") + loop + SITES + "Zn1 0.1234567 0.2 0.3\n"
    assert positions(text) == {"Zn": [[0.12346, 0.2, 0.3], [0.12346, 0.8, 0.3]]}


def test_words_of_a_line():
    """Examples of the CIF 1.1 grammar: a quote inside a word, a mark after a word, empty quotations."""
    block = parse_cif("data_x\nloop_ _a\n'O5'' \"two words\" a'b c#d '' ;\n;field\n;\n'_e' # _f\n_g '#'\n")[0]
    assert block.loops == [(["_a"], ["O5'", "two words", "a'b", "c#d", "", ";", "field", "_e"])]
    assert block.values == {"_g": "#"}
