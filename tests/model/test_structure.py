"""Structures from files and objects: against jarvis-tools, pymatgen and ase, and what is refused."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import StructureError
from model.structure import ATOMIC_NUMBERS, ELEMENTS, Structure, as_structure, read_structure

POSCAR = """gallium nitride
1.0
3.19 0.0 0.0
-1.595 2.762621 0.0
0.0 0.0 5.18
Ga N
2 2
Direct
0.333333 0.666667 0.0
0.666667 0.333333 0.5
0.333333 0.666667 0.376
0.666667 0.333333 0.876
"""
CARTESIAN = """rocksalt
1.0
0 2.82 2.82
2.82 0 2.82
2.82 2.82 0
Na Cl
1 1
Cartesian
0.1 0.2 0.3
2.92 3.02 3.12
"""


def poscar_of_jarvis(text: str):
    from jarvis.io.vasp.inputs import Poscar

    return Poscar.from_string(text).atoms


def assert_bits_of_jarvis(structure: Structure, atoms) -> None:
    np.testing.assert_array_equal(structure.lattice, atoms.lattice_mat)
    np.testing.assert_array_equal(structure.fractional_coordinates, atoms.frac_coords)
    np.testing.assert_array_equal(structure.positions, atoms.cart_coords)
    assert list(structure.elements) == list(atoms.elements)


@pytest.mark.parametrize("name", ["POSCAR", "CONTCAR.relaxed", "x.vasp", "x.poscar", "POSCAR-1.vasp", "x.contcar"])
@pytest.mark.parametrize("text", [POSCAR, CARTESIAN], ids=["direct", "cartesian"])
def test_poscar_is_read_as_jarvis_reads_it(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    assert_bits_of_jarvis(read_structure(path), poscar_of_jarvis(text))
    assert_bits_of_jarvis(read_structure(str(path)), poscar_of_jarvis(text))


def test_recorded_poscars_are_read_as_jarvis_reads_them(shared):
    paths = sorted((shared / "oracle/structures").glob("POSCAR-*"))
    assert len(paths) == 6
    for path in paths:
        assert_bits_of_jarvis(read_structure(path), poscar_of_jarvis(path.read_text()))


def test_selective_dynamics_and_potential_names(tmp_path):
    path = tmp_path / "POSCAR"
    text = POSCAR.replace("Ga N", "Ga_d N/1a2b").replace("Direct", "Selective dynamics\nDirect")
    path.write_text(text.replace("0.0\n0.66", "0.0 T T F\n0.66"))
    plain = tmp_path / "x.vasp"
    plain.write_text(POSCAR)
    one, other = read_structure(path), read_structure(plain)
    assert one.elements == other.elements == ("Ga", "Ga", "N", "N")
    np.testing.assert_array_equal(one.fractional_coordinates, other.fractional_coordinates)


@pytest.mark.parametrize("scale", ["2.0", "-105.4748"])
def test_scale_follows_vasp(tmp_path, scale):
    """VASP scales cartesian coordinates too, and takes a negative scale for the volume, as ase does."""
    ase_io = pytest.importorskip("ase.io", reason="ase is not installed")
    path = tmp_path / "POSCAR"
    path.write_text(CARTESIAN.replace("\n1.0\n", f"\n{scale}\n"))
    structure, expected = read_structure(path), ase_io.read(path, format="vasp")
    np.testing.assert_allclose(structure.lattice, np.array(expected.cell), rtol=1e-12)
    np.testing.assert_allclose(structure.positions, expected.positions, rtol=1e-12)
    assert abs(np.linalg.det(structure.lattice)) > 100


def test_xyz_is_read_as_jarvis_reads_it(tmp_path):
    from jarvis.core.atoms import Atoms

    molecule = "3\nwater\nO 0 0 0.119\nH 0 0.763 -0.477\nH 0 -0.763 -4.77*^-1\n"
    crystal = "2\n5.0,0,0,0.5,4.8,0,0,0,6.1\nNa 0.1 0.2 0.3\nCl 2.6 2.4 3.2\n"
    for text in (molecule, crystal):
        path = tmp_path / "x.xyz"
        path.write_text(text)
        structure = read_structure(path)
        assert_bits_of_jarvis(structure, Atoms.from_xyz(str(path)))
    assert np.ptp(structure.lattice.diagonal()) > 1


def test_extended_xyz_keeps_its_cell(tmp_path):
    ase = pytest.importorskip("ase", reason="ase is not installed")
    atoms = ase.Atoms("GaAs", positions=[[0.2, 0.1, 0], [1.5, 1.4, 1.3]], cell=[[0, 3, 3], [3, 0, 3], [3, 3, 0]])
    path = tmp_path / "x.xyz"
    atoms.write(path, format="extxyz")
    structure = read_structure(path)
    np.testing.assert_allclose(structure.lattice, np.array(atoms.cell))
    # jarvis moves what it reads from XYZ to the middle of the cell: compare differences.
    np.testing.assert_allclose(np.diff(structure.positions, axis=0), np.diff(atoms.positions, axis=0), atol=1e-12)


def test_pdb_is_read_as_jarvis_reads_it(tmp_path, capfd):
    from jarvis.core.atoms import Atoms

    row = "ATOM      {0}  {1}   ALA A   {0}      {2:.3f}   {3:.3f}   {4:.3f}  1.00  0.00           {1}\n"
    places = [("N", 1.1, 2.2, 3.3), ("C", 2.4, 2.9, 3.1), ("O", 3.3, 2.1, 4.2), ("H", 0.8, 3.1, 4.0)]
    path = tmp_path / "x.pdb"
    path.write_text("".join(row.format(i, *place) for i, place in enumerate(places, 1)))
    structure = read_structure(path)
    assert capfd.readouterr().out == ""
    atoms = Atoms.from_pdb_old(str(path))
    np.testing.assert_array_equal(structure.fractional_coordinates, atoms.frac_coords)
    assert structure.elements == ("N", "C", "O", "H")


@pytest.mark.parametrize("cartesian", [True, False])
def test_json_is_the_dictionary_of_jarvis(tmp_path, cartesian):
    from jarvis.core.atoms import Atoms

    lattice, coordinates = (
        [[3.1, 0, 0.123456789], [0, 3.2, 0], [0, 0, 3.3]],
        [[0.1, 0.2, 0.3], [0.6, 0.7, 0.8]],
    )
    atoms = Atoms(lattice_mat=lattice, coords=coordinates, elements=["Ga", "N"], cartesian=cartesian)
    path = tmp_path / "x.json"
    for content in (atoms.to_dict(), {"jid": "x", "atoms": atoms.to_dict()}):
        path.write_text(json.dumps(content))
        assert_bits_of_jarvis(read_structure(path), atoms)
    assert_bits_of_jarvis(read_structure(atoms.to_dict()), atoms)
    assert_bits_of_jarvis(read_structure(atoms), atoms)


def test_objects_of_other_libraries(textbook, as_atoms):
    core = pytest.importorskip("pymatgen.core", reason="pymatgen is not installed")
    ase = pytest.importorskip("ase", reason="ase is not installed")
    from jarvis.core.atoms import ase_to_atoms, pmg_to_atoms

    source = textbook["perovskite"]
    crystal = core.Structure(source.lattice, list(source.elements), source.fractional_coordinates)
    charged = crystal.copy().add_oxidation_state_by_element({"Ba": 2, "Ti": 4, "O": -2})
    for source_object in (crystal, charged):
        assert_bits_of_jarvis(read_structure(source_object), pmg_to_atoms(crystal))
    cell = ase.Atoms(source.elements, cell=source.lattice, positions=source.positions, pbc=True)
    assert_bits_of_jarvis(read_structure(cell), ase_to_atoms(cell))
    assert_bits_of_jarvis(read_structure(as_atoms(source)), as_atoms(source))
    assert read_structure(source) is source


def test_cartesian_positions_are_kept_to_the_last_bit(textbook, as_atoms):
    supercell = as_atoms(textbook["silicon"]).make_supercell([2, 2, 2])
    structure = read_structure(supercell)
    np.testing.assert_array_equal(structure.positions, supercell.cart_coords)
    through_fractional = structure.fractional_coordinates @ structure.rounded_lattice
    assert (through_fractional != structure.positions).any()


def test_deuterium_is_hydrogen(tmp_path):
    path = tmp_path / "POSCAR"
    path.write_text(POSCAR.replace("Ga N", "Pd D"))
    assert read_structure(path).elements == ("Pd", "Pd", "H", "H")


def test_elements_are_numbered_in_order():
    ase_data = pytest.importorskip("ase.data", reason="ase is not installed")
    assert ase_data.chemical_symbols[1 : len(ELEMENTS) + 1] == list(ELEMENTS)
    assert ATOMIC_NUMBERS["Lr"] == 103


def test_structure_cannot_be_changed(textbook):
    structure = textbook["silicon"]
    with pytest.raises(ValueError, match="read-only"):
        structure.lattice[0, 0] = 1.0
    with pytest.raises(AttributeError):
        structure.elements = ("C",)


@pytest.mark.parametrize(
    ("lattice", "coordinates", "elements", "words"),
    [
        (np.eye(3)[:2], [[0, 0, 0]], ["C"], r"cell vectors of shape \(3, 3\), got \(2, 3\)"),
        (5 * np.eye(3), [[0, 0, 0]], ["C", "C"], r"fractional coordinates of shape \(2, 3\), got \(1, 3\)"),
        (5 * np.eye(3), np.zeros((0, 3)), [], "at least one atom"),
        (5 * np.eye(3), [[0, 0, np.nan]], ["C"], "finite fractional coordinates"),
        (np.inf * np.ones((3, 3)), [[0, 0, 0]], ["C"], "finite cell vectors"),
        (np.diag([5.0, 5.0, 0.0]), [[0, 0, 0]], ["C"], "span a volume, got 0 cubic angstrom"),
        (5 * np.eye(3), [[0, 0, 0]], ["Xx"], "an element from H to Lr .* got 'Xx'"),
        (5 * np.eye(3), [[0, 0, 0]], ["Rf"], "an element from H to Lr .* got 'Rf'"),
        (5 * np.eye(3), [["a", "b", "c"]], ["C"], "no table of numbers"),
        (np.diag([5, 5, 2e4]), [[0, 0, 0]], ["C"], r"finite cell vectors up to 1e\+04, got 20000"),
        (5 * np.eye(3), [[0, 0, -3e4]], ["C"], r"finite fractional coordinates up to 1e\+04, got 30000"),
    ],
)
def test_structure_refuses(lattice, coordinates, elements, words):
    with pytest.raises(StructureError, match=words):
        Structure(lattice, coordinates, tuple(elements))


FILES = {
    "empty.cif": ("", "got an empty file"),
    "blank.vasp": (" \n\n", "got an empty file"),
    "POSCAR": ("a\n1\n1 0 0\n", "at least 8 lines"),
    "volume.vasp": (POSCAR.replace("\n0.0 0.0 5.18", "\n3.19 0.0 0.0"), "span a volume"),
    "old.vasp": (POSCAR.replace("Ga N\n", ""), "VASP 4"),
    "counts.vasp": (POSCAR.replace("2 2", "2"), "one count for each"),
    "short.vasp": (POSCAR.removesuffix("0.666667 0.333333 0.876\n"), "expected 4 atoms, got 3"),
    "many.vasp": (POSCAR.replace("2 2", "2 999999999999"), "expected 1000000000001 atoms"),
    "words.vasp": (POSCAR.replace("0.376", "here"), r"coordinates of an atom \(3 numbers\)"),
    "scales.vasp": (POSCAR.replace("\n1.0\n", "\n1.0 1.0 2.0\n"), "expected one scale"),
    "zero.vasp": (POSCAR.replace("\n1.0\n", "\n0.0\n"), "a scale other than 0"),
    "element.vasp": (POSCAR.replace("Ga N", "Ga Zz"), "got 'Zz'"),
    "twice.vasp": (POSCAR.replace("0.876", "0.501"), r"apart, got atom 2 at 0\.005 angstrom from atom 4"),
    "count.xyz": ("two\n\nH 0 0 0\n", "number of atoms in the first line"),
    "short.xyz": ("2\n\nH 0 0 0\n", "expected 2 atoms, got 1"),
    "long.xyz": ("2\n\nH 0 0 0\nH 50 0 0\n", "a molecule under 40 angstrom"),
    "row.xyz": ("1\n\nH 0 0\n", "a position"),
    "broken.json": ("{", "could not parse it"),
    "list.json": ("[1, 2]", "got a list"),
    "other.json": ('{"lattice": 1}', "without lattice_mat, coords, elements"),
    "text.json": ('{"lattice_mat": "a", "coords": 3, "elements": ["C"]}', "no table of numbers"),
    "nothing.pdb": ("REMARK nothing\n", "could not read it"),
    "deep.json": ("[" * 100_000, "could not parse it"),
    "what.docx": ("text", r"expected a structure file named POSCAR\*"),
}


@pytest.mark.parametrize("name", FILES)
def test_file_that_is_no_structure_is_refused_by_name(tmp_path, capfd, name):
    text, words = FILES[name]
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(StructureError, match=words) as caught:
        read_structure(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().out == ""


def test_paths_that_cannot_be_read(tmp_path, monkeypatch):
    with pytest.raises(StructureError, match=r"missing\.cif: expected a readable file: No such file"):
        read_structure(tmp_path / "missing.cif")
    (tmp_path / "folder.cif").mkdir()
    with pytest.raises(StructureError, match="expected a readable file"):
        read_structure(tmp_path / "folder.cif")
    (tmp_path / "image.cif").write_bytes(b"\x89PNG\0\0data_")
    with pytest.raises(StructureError, match="got binary data"):
        read_structure(tmp_path / "image.cif")
    monkeypatch.setattr("model.structure._MOST_BYTES", 10)
    (tmp_path / "POSCAR").write_text(POSCAR)
    with pytest.raises(StructureError, match="expected a structure file of at most"):
        read_structure(tmp_path / "POSCAR")


def test_latin_1_is_read(tmp_path, textbook):
    path = tmp_path / "POSCAR"
    path.write_bytes(POSCAR.replace("gallium nitride", "Müller, 25 °C").encode("latin-1"))
    assert read_structure(path).number_of_atoms == 4


@pytest.mark.parametrize("given", [None, 3, [1, 2], object()])
def test_other_objects_are_refused(given):
    with pytest.raises(StructureError, match="expected a path, a jarvis Atoms"):
        read_structure(given)


def test_disordered_and_molecular_objects_are_refused():
    core = pytest.importorskip("pymatgen.core", reason="pymatgen is not installed")
    ase = pytest.importorskip("ase", reason="ase is not installed")
    disordered = core.Structure(core.Lattice.cubic(4), [{"Fe": 0.5, "Ni": 0.5}], [[0, 0, 0]])
    with pytest.raises(StructureError, match="disordered structure"):
        read_structure(disordered)
    with pytest.raises(StructureError, match="give a molecule or a slab a cell"):
        read_structure(ase.Atoms("H2O", positions=np.eye(3)))


def test_overlap_is_left_to_the_bonds_by_as_structure():
    lattice, coordinates = 4 * np.eye(3), [[0, 0, 0], [0.01, 0, 0]]
    structure = as_structure(Structure(lattice, coordinates, ("C", "C")))
    with pytest.raises(StructureError, match="expected atoms more than"):
        read_structure(structure)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_damaged_files_are_read_or_refused(tmp_path_factory, data):
    """A byte changed, a piece cut out or put twice: nothing but StructureError comes of it."""
    name, text = data.draw(st.sampled_from([("POSCAR", POSCAR), ("x.vasp", CARTESIAN)]))
    begin, end = sorted(data.draw(st.tuples(st.integers(0, len(text)), st.integers(0, len(text)))))
    middle = data.draw(st.sampled_from(["", text[begin:end] * 2, "\u00e9", "-", "9" * 30, "nan", "\n"]))
    path: Path = tmp_path_factory.getbasetemp() / name
    path.write_text(text[:begin] + middle + text[end:])
    with contextlib.suppress(StructureError), contextlib.redirect_stdout(io.StringIO()) as printed:
        structure = read_structure(path)
        assert np.isfinite(structure.positions).all()
        assert printed.getvalue() == ""
