"""A configuration folder is read as one: everything right, or every problem with its file, line and what to do."""

# ruff: noqa: E501 - one case a line reads best
from __future__ import annotations

import re
from datetime import date
from importlib import resources
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from lienthong.config import KINDS, ConfigProblems, json_schema
from lienthong.config_files import read_document
from lienthong.errors import ConfigError
from lienthong.readers import READERS
from lienthong.run import processes_of
from lienthong.settings import EntityMap, FieldMap, Part, Profile
from tests.config_kit import AUTHORITY, CONTRACTS, ENV, FILES, NATIONAL, PROFILE, SYSTEMS, Case, assert_reported, load, named, problems, write
from tests.portal_kit import CONTRACTS as CONTRACTS_OF_PORTAL


def test_a_correct_folder_becomes_settings(tmp_path: Path) -> None:
    settings = load(write(tmp_path, FILES))
    assert settings.systems["ward-tan-dinh"].dsn == ENV["WARD"]
    assert settings.profile_of("ward-tan-dinh").entities["dossier"].fields["local_code"].column == "ma_ho_so"
    assert settings.authority["fee"]["content"][0].order == ("@processing", "kind:ward")
    contract = settings.contract_of("ward-tan-dinh")
    assert contract is not None
    assert contract.entities["dossier"].where.units == ("own",)


def test_the_demo_folder_is_correct() -> None:
    folder = Path(__file__).parents[2] / "lienthong/demo/config"
    names = re.findall(r"\$\{(\w+)\}", (folder / "systems.yaml").read_text() + (folder / "national.yaml").read_text())
    settings = load(folder, {name: "http://127.0.0.1:1" if name.endswith("_URL") else "dbname=x" for name in names})
    assert settings.systems
    assert settings.national is not None


# One change to one file, and the first words of the one line that must be reported.
CASES = [
    ("systems", "capture: wal", "captur: wal", "systems.yaml:7:5: systems.ward-tan-dinh.captur: unknown key (did you mean capture?)"),
    ("systems", "capture: wal", "capture: wall", "systems.yaml:7:5: systems.ward-tan-dinh.capture: must be 'wal', 'outbox' or 'none' (did you mean wal?)"),
    ("systems", '["26737"]', "[26737]", "systems.yaml:10:13: systems.ward-tan-dinh.units[0]: a code must be text (put it in quotes)"),
    ("systems", '["26737"]', "[00004]", "systems.yaml:10:13: systems.ward-tan-dinh.units[0]: 00004 would be read as a number"),
    ("systems", '["26737"]', '["99999"]', "systems.yaml:10:13: systems.ward-tan-dinh.units[0]: no unit has the code 99999 on 2026-11-23"),
    ("systems", '    units: ["26737"]\n', '    units: ["26737"]\n    agencies: [H29.1]\n', "systems.yaml:11:16: systems.ward-tan-dinh.agencies[0]: a code must be text (put it in quotes)"),
    ("systems", "    kind: ward\n", "    kind: ward\n    kind: ward\n", "systems.yaml:10:5: systems.ward-tan-dinh.kind: the key is given twice, first in line 9"),
    ("systems", "profile: ward-new", "profile: ward-nu", "systems.yaml:6:5: systems.ward-tan-dinh.profile: there is no profile ward-nu (did you mean ward-new?"),
    ("systems", "dsn: ${WARD}", "dsn: ${WARDD}", "systems.yaml:8:5: systems.ward-tan-dinh.dsn: the variable WARDD is not set"),
    ("systems", "dsn: ${WARD}", "dsn: host=x password=abc", "systems.yaml:8:5: systems.ward-tan-dinh.dsn: a password is written in the file"),
    ("systems", "dsn: ${WARD}", "dsn: postgresql://u:abc@h/d", "systems.yaml:8:5: systems.ward-tan-dinh.dsn: a password is written in the file"),
    ("systems", "dsn: ${WARD}", "dsn: file:/nowhere/at/all", "systems.yaml:8:5: systems.ward-tan-dinh.dsn: the file /nowhere/at/all cannot be read"),
    ("systems", "  ward-tan-dinh:", "  Ward_Tan:", "systems.yaml:5:3: systems.Ward_Tan: a name has lower-case letters"),
    ("systems", "hub: {", "hub [", "systems.yaml:2:19: not valid YAML"),
    ("systems", "    dsn: ${WARD}\n", "", "systems.yaml:5:3: systems.ward-tan-dinh: the key dsn is missing (add it, or delete profile: for a party that only reads its topic write capture: none and apply: false, without both)"),
    ("systems", "    profile: ward-new\n", "", "systems.yaml:5:3: systems.ward-tan-dinh: the key profile is missing (add it, or delete dsn: for a party that only"),
    ("systems", "    dsn: ${WARD}\n", "    dsn:\n", "systems.yaml:5:3: systems.ward-tan-dinh: the key dsn is missing"),
    ("profiles/ward-new", "submitted_at: {", "submited_at: {", "profiles/ward-new.yaml:11:7: entities.dossier.fields.submited_at: dossier has no field submited_at (did you mean submitted_at?)"),
    ("profiles/ward-new", "  fee:", "  fees:", "profiles/ward-new.yaml:15:3: entities.fees: there is no entity fees (did you mean fee?)"),
    ("profiles/ward-new", "datetime_compact", "datetime_compac", "profiles/ward-new.yaml:11:40: entities.dossier.fields.submitted_at.read: there is no reader datetime_compac (did you mean datetime_compact?)"),
    ("profiles/ward-new", "read: datetime_compact", "read: money_text", "profiles/ward-new.yaml:11:40: entities.dossier.fields.submitted_at.read: the reader money_text gives long or int, the field holds instant"),
    ("profiles/ward-new", "xong: 10", "xong: 11", "profiles/ward-new.yaml:14:53: entities.dossier.fields.status.values.xong: status goes from 1 to 10, not 11"),
    ("profiles/ward-new", "xong: 10", "xong: done", "profiles/ward-new.yaml:14:53: entities.dossier.fields.status.values.xong: status holds a whole number, not 'done'"),
    ("profiles/ward-new", "      procedure_code: ma_tthc\n", "", "profiles/ward-new.yaml:9:5: entities.dossier.fields: dossier.procedure_code is mandatory and not mapped"),
    ("profiles/ward-new", "nguoi.ho_ten", "nguo.ho_ten", "profiles/ward-new.yaml:12:7: entities.dossier.fields.applicant_name: there is no part nguo (did you mean nguoi?)"),
    ("profiles/ward-new", "applicant_unit_code: {column: ma_xa", "applicant_unit: {column: ma_xa", "profiles/ward-new.yaml:13:7: entities.dossier.fields.applicant_unit: applicant_unit is worked out from applicant_unit_code"),
    ("profiles/ward-new", '"on": submitted_at', '"on": submitted', "profiles/ward-new.yaml:13:44: entities.dossier.fields.applicant_unit_code.on: dossier has no date field submitted (did you mean submitted_at?)"),
    ("profiles/ward-new", "    parent: {entity: dossier, columns: ho_so_id}\n", "", "profiles/ward-new.yaml:15:3: entities.fee: a fee belongs to a dossier: which one?"),
    ("profiles/ward-new", "columns: ho_so_id", "columns: [a, b]", "profiles/ward-new.yaml:18:31: entities.fee.parent.columns: the key of dossier has 1 columns (id)"),
    ("profiles/ward-new", "identifiers: {local", "identifiers: {locl", "profiles/ward-new.yaml:6:19: entities.dossier.identifiers.locl: must be 'national', 'local' or 'linked' (did you mean local?)"),
    ("profiles/ward-new", "column: trang_thai", "column: trang_thai, constant: 1", "profiles/ward-new.yaml:14:7: entities.dossier.fields.status: give exactly one of `column` or `constant`"),
    ("profiles/ward-new", "table: le_phi", "table: 'public.ho_so'", "profiles/ward-new.yaml:16:5: entities.fee.table: the same table is written ho_so elsewhere"),
    ("profiles/ward-new", "profile: ward-new", "profile: ward-old", "profiles/ward-new.yaml:1:1: profile: the file is named ward-new.yaml but says ward-old"),
    ("profiles/ward-new", "procedure_code: ma_tthc", "procedure_code: ma_tthc\n      procedure_name: ma_tthc", "profiles/ward-new.yaml:11:7: entities.dossier.fields.procedure_name: procedure_code and procedure_name would both be written to ma_tthc (keep one of them, or make the other one {column: ma_tthc, write: false})"),
    ("profiles/ward-new", "    identifiers:", "    zone: Mars\n    identifiers:", "profiles/ward-new.yaml:6:5: entities.dossier.zone: unknown key"),
    ("authority", "    intake: *all\n", "", "authority.yaml:2:3: authority.dossier: nobody is the authority for dossier: intake"),
    ("authority", "    intake: *all", "    intak: *all\n    intake: *all", "authority.yaml:7:5: authority.dossier.intak: dossier has no field group intak (did you mean intake?)"),
    ("authority", "order: ward-tan-dinh", "order: ward-tan-din", "authority.yaml:6:10: authority.dossier.routing[0].order: there is no system ward-tan-din (did you mean ward-tan-dinh?)"),
    ("authority", "order: ward-tan-dinh", 'order: "@processing"', "authority.yaml:6:10: authority.dossier.routing[0].order: routing says who @processing is"),
    ("authority", "      - {order: ward-tan-dinh, basis: decree 118/2025}", "      - {order: ward-tan-dinh, basis: abc, valid_from: 2025-07-01}\n      - {order: ward-tan-dinh, basis: abc, valid_from: 2024-01-01}", "authority.yaml:7:44: authority.dossier.routing[1].valid_from: the rules must be in order"),
    ("contracts", "system: ward-tan-dinh", "system: ward-tan-din", "contracts.yaml:3:5: contracts.tan-dinh.system: there is no system ward-tan-din (did you mean ward-tan-dinh?)"),
    ("contracts", "applicant_name, status", "applicant_nam, status", "contracts.yaml:8:34: contracts.tan-dinh.entities.dossier.fields[1]: dossier has no field applicant_nam (did you mean applicant_name?)"),
    ("contracts", "applicant_name: initials", "status: initials", "contracts.yaml:10:16: contracts.tan-dinh.entities.dossier.mask.status: the mask initials does not fit status (int)"),
    ("contracts", "applicant_name: initials", "note: initials", "contracts.yaml:10:16: contracts.tan-dinh.entities.dossier.mask.note: note is not among the fields of this contract"),
    ("contracts", "units: own", "agencies: own", "contracts.yaml:9:17: contracts.tan-dinh.entities.dossier.where.agencies: the system has no agencies of its own"),
    ("contracts", "units: own", "procedures: [1.10]", "contracts.yaml:9:30: contracts.tan-dinh.entities.dossier.where.procedures[0]: a code must be text (put it in quotes)"),
    ("contracts", "units: own", 'any_of: [{units: ["00"]}]', "contracts.yaml:9:35: contracts.tan-dinh.entities.dossier.where.any_of[0].units[0]: no unit has the code 00"),
    ("contracts", "fee: {", "citizen: {mask: {religion: initials}}\n      fee: {", "contracts.yaml:11:24: contracts.tan-dinh.entities.citizen.mask.religion: religion is sensitive and not part of `all`"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=named)
def test_a_mistake_is_reported_with_its_place(tmp_path: Path, case: Case) -> None:
    assert_reported(tmp_path, case, FILES)


@pytest.mark.parametrize(
    ("file", "right", "wrong"),
    [
        ("systems", "capture: wal", "captur: wal"),
        ("systems", '["26737"]', "[26737]"),
        ("systems", "dsn: ${WARD}", "dsn: ${WARDD}"),
        ("profiles/ward-new", "datetime_compact", "datetime_compac"),
        ("profiles/ward-new", "xong: 10", "xong: [10]"),
        ("contracts", "units: own", "agencies: own"),
    ],
)
def test_one_mistake_is_one_problem(tmp_path: Path, file: str, right: str, wrong: str) -> None:
    write(tmp_path, {**FILES, file: FILES[file].replace(right, wrong, 1)})
    assert len(problems(tmp_path)) == 1


READS_ONLY = """\
  dept-tax:
    capture: none
    apply: false
"""
ITS_CONTRACT = """\
  tax:
    system: dept-tax
    purpose: collecting fees
    legal_ground: decree 118/2025
    entities:
      dossier: {fields: [applicant_phone, status], mask: {applicant_phone: last4}}
"""


def test_a_party_that_only_reads_its_topic_needs_no_profile_and_no_dsn(tmp_path: Path) -> None:
    settings = load(write(tmp_path, {**FILES, "systems": SYSTEMS + READS_ONLY, "contracts": CONTRACTS + ITS_CONTRACT}))
    assert (settings.with_database(), settings.without_database()) == (["ward-tan-dinh"], ["dept-tax"])
    assert settings.contract_of("dept-tax") is not None
    for ask in (settings.dsn_of, settings.profile_of):
        with pytest.raises(ConfigError, match=r"^dept-tax has no database .* reads lienthong\.out\.dept-tax itself"):
            ask("dept-tax")


def test_the_page_shows_a_party_that_only_reads_as_it_can_be_configured(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "onboarding.md").read_text("utf-8")
    section = page.partition("\n## An agency that only reads its topic\n")[2].partition("\n## ")[0]
    party, contract = re.findall(r"^```yaml\n\w+:\n(.*?)^```", section, flags=re.M | re.S)
    settings = load(write(tmp_path, {**FILES, "systems": SYSTEMS + party, "contracts": CONTRACTS + contract}))
    (name,) = settings.without_database()
    assert settings.contract_of(name) is not None


@pytest.mark.parametrize(
    "text",
    [
        READS_ONLY.replace("    capture: none\n", ""),
        READS_ONLY.replace("    apply: false\n", ""),
        READS_ONLY.replace("none", "wal"),
        READS_ONLY.replace("false", "true"),
        "  dept-tax: {kind: department}\n",
    ],
)
def test_a_system_that_lost_its_database_by_mistake_is_no_party_that_only_reads(tmp_path: Path, text: str) -> None:
    assert problems(write(tmp_path, {**FILES, "systems": SYSTEMS + text})) == [
        "systems.yaml:11:3: systems.dept-tax: the keys profile and dsn are missing "
        "(add both; for a party that only reads its topic write capture: none and apply: false)"
    ]


def test_what_else_is_wrong_with_a_party_that_only_reads_is_reported_with_it(tmp_path: Path) -> None:
    text = READS_ONLY.replace("apply: false", 'units: ["99999"]')
    wrong = ITS_CONTRACT.replace("fields: [applicant_phone", "fields: [applicant_fone")
    found = problems(write(tmp_path, {**FILES, "systems": SYSTEMS + text, "contracts": CONTRACTS + wrong}))
    assert [line.split(" (")[0] for line in found] == [
        "contracts.yaml:17:26: contracts.tax.entities.dossier.fields[0]: dossier has no field applicant_fone",
        "contracts.yaml:17:58: contracts.tax.entities.dossier.mask.applicant_phone: applicant_phone is not among the fields of this contract",
        "systems.yaml:11:3: systems.dept-tax: the keys profile and dsn are missing",
        "systems.yaml:13:13: systems.dept-tax.units[0]: no unit has the code 99999 on 2026-11-23",
    ]


def test_all_files_report_at_once_ordered_by_file_and_line(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "systems": SYSTEMS.replace("capture", "captur").replace("${WARD}", "${NONE}"),
            "profiles/ward-new": PROFILE.replace("datetime_compact", "datetime_compac").replace("xong: 10", "xong: 11"),
            "authority": AUTHORITY.replace("routing", "routin"),
            "contracts": CONTRACTS.replace("initials", "year"),
        },
    )
    places = [line.split(": ")[0] for line in problems(tmp_path)]
    assert places == [
        "authority.yaml:2:3", "authority.yaml:5:5", "contracts.yaml:10:16", "profiles/ward-new.yaml:11:40",
        "profiles/ward-new.yaml:14:53", "systems.yaml:7:5", "systems.yaml:8:5",
    ]  # fmt: skip


def test_a_secret_never_appears_in_a_problem(tmp_path: Path) -> None:
    secret = tmp_path / "dsn"
    secret.write_text("postgresql://u:hush@h/d\n")
    text = SYSTEMS.replace("${WARD}", f"file:{secret}").replace("${HUB}", "host=h password=hush2").replace("kind", "knd")
    found = "\n".join(problems(write(tmp_path, {**FILES, "systems": text})))
    assert "hush" not in found
    write(tmp_path, {"systems": SYSTEMS.replace("${WARD}", f"file:{secret}")})
    assert load(tmp_path).systems["ward-tan-dinh"].dsn == "postgresql://u:hush@h/d"


def test_a_password_from_a_variable_inside_an_address_is_fine(tmp_path: Path) -> None:
    write(tmp_path, {**FILES, "systems": SYSTEMS.replace("${WARD}", "postgresql://u:${PW}@h/d")})
    assert load(tmp_path, {**ENV, "PW": "x"}).systems["ward-tan-dinh"].dsn == "postgresql://u:x@h/d"


def test_two_wards_cannot_claim_one_unit(tmp_path: Path) -> None:
    second = SYSTEMS.partition("systems:\n")[2].replace("ward-tan-dinh", "ward-b")
    assert problems(write(tmp_path, {**FILES, "systems": SYSTEMS + second})) == [
        "systems.yaml:16:13: systems.ward-b.units[0]: unit 26737 already belongs to ward-tan-dinh (one ward system per unit)"
    ]


def test_missing_and_empty_files_are_problems_not_crashes(tmp_path: Path) -> None:
    found = problems(write(tmp_path, {"systems": SYSTEMS, "contracts": "", "profiles/ward-new": PROFILE}))
    assert found[0].startswith("authority.yaml:1:1: the file does not exist")
    assert found[1].startswith("contracts.yaml:1:1: the file holds no mapping")
    (tmp_path / "contracts.yaml").write_bytes(b"a: \xff\xfe")
    assert any("contracts.yaml:1:1: the file is not UTF-8 at byte 3" in line for line in problems(tmp_path))


@pytest.mark.parametrize(
    "text",
    [
        "a: &a {b: *a}",
        "a: &a [x, x, x]\n" + "\n".join(f"{c}: &{c} [{', '.join([f'*{p}'] * 9)}]" for p, c in zip("abcdefgh", "bcdefghi", strict=True)),
    ],
)
def test_aliases_cannot_blow_up_memory(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    assert "too deep or too large" in read_document(tmp_path / "x.yaml", "x.yaml").problems[0].message


def test_problems_carry_everything_a_machine_needs(tmp_path: Path) -> None:
    write(tmp_path, {**FILES, "systems": SYSTEMS.replace("capture", "captur")})
    with pytest.raises(ConfigProblems) as caught:
        load(tmp_path)
    assert caught.value.problems[0].as_dict() == {
        "file": "systems.yaml", "line": 7, "column": 5, "path": "systems.ward-tan-dinh.captur", "code": "CFG-UNKNOWN",
        "message": "unknown key", "hint": "did you mean capture?", "severity": "error", "dependency": False,
    }  # fmt: skip


def test_168_wards_are_read_within_seconds(tmp_path: Path) -> None:
    import time

    from lienthong import units

    codes = [code for code in (f"{number:05}" for number in range(26000, 28000)) if units.known(code, date(2026, 11, 23))][:168]
    block = SYSTEMS.partition("systems:\n")[2]
    wards = "".join(block.replace("ward-tan-dinh", f"ward-{code}").replace("26737", code) for code in codes)
    text = SYSTEMS.partition("systems:\n")[0] + "systems:\n" + wards
    write(tmp_path, {**FILES, "systems": text, "authority": AUTHORITY.replace("ward-tan-dinh", f"ward-{codes[0]}"),
                     "contracts": CONTRACTS.replace("ward-tan-dinh", f"ward-{codes[0]}")})  # fmt: skip
    start = time.monotonic()
    assert len(load(tmp_path).systems) == len(codes) > 100
    assert time.monotonic() - start < 20  # a hang, not a benchmark: it takes 0.3 s


@pytest.mark.parametrize("kind", KINDS)
def test_json_schema_names_its_dialect_and_refuses_unknown_keys(kind: str) -> None:
    schema = json_schema(kind)
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert schema["additionalProperties"] is False
    examples = {"systems": SYSTEMS, "authority": AUTHORITY, "contracts": CONTRACTS, "profile": PROFILE, "national": NATIONAL}
    examples["deadlines"] = "version: 1\nhours: []\ndisputed: {}\ndays: {}\nlimits: {}\n"
    examples["web"] = "version: 1\naddress: https://lien-thong.example.vn\n"
    examples["expectations"] = (resources.files("lienthong") / "data" / "expectations.yaml").read_text("utf-8")
    keys = set(YAML(typ="safe").load(examples[kind]))
    assert keys <= set(schema["properties"])


# ------------------------------------------------------------------ national.yaml
ITS_SYSTEM = "  national-portal: {kind: national-portal, capture: none, apply: false}\n"
DELIVERED = CONTRACTS_OF_PORTAL.partition("contracts:\n")[2]
WITH_NATIONAL = {**FILES, "systems": SYSTEMS + ITS_SYSTEM, "contracts": CONTRACTS + DELIVERED, "national": NATIONAL}
NATIONAL_ENV = {**ENV, "PORTAL": "https://portal.example", "PORTAL_SECRET": "hush"}


def test_national_services_are_optional_and_their_secrets_come_from_outside(tmp_path: Path) -> None:
    assert load(write(tmp_path, FILES)).national is None
    national = load(write(tmp_path, WITH_NATIONAL), NATIONAL_ENV).national
    assert national is not None
    assert national.portal is not None
    assert (national.portal.endpoint, national.portal.secret, national.portal.variant) == ("https://portal.example", "hush", "lgsp")
    assert national.population is None
    assert "hush" not in repr(national)


def test_the_role_that_delivers_runs_only_where_a_portal_is_configured(tmp_path: Path) -> None:
    assert "deliver" not in processes_of(load(write(tmp_path, FILES)))
    assert processes_of(load(write(tmp_path, WITH_NATIONAL), NATIONAL_ENV)).count("deliver") == 1


NATIONAL_CASES = [
    ("national", "user: city", "usr: city", "national.yaml:5:3: portal.usr: unknown key (did you mean user?)"),
    ("national", "secret: ${PORTAL_SECRET}", "secret: hush", "national.yaml:6:3: portal.secret: a secret is written in the file (write ${NAME}"),
    ("national", "${PORTAL}", "${PORTL}", "national.yaml:4:3: portal.endpoint: the variable PORTL is not set"),
    ("national", "${PORTAL}", "https://u:p@host/x", "national.yaml:4:3: portal.endpoint: not the address of a service"),
    ("national", "user: city", "user: city\n  variant: ministry\n  files: [https://files.city/a/, https://files.city/b]", "national.yaml:7:34: portal.files[1]: not a place to fetch"),
    ("national", "user: city", "user: city\n  files: [https://files.city/a/]", "national.yaml:6:3: portal.files: papers are put at the portal with variant ministry only"),
    ("national", "system: national-portal", "system: national-portl", "national.yaml:3:3: portal.system: there is no system national-portl in systems.yaml (did you mean national-portal?)"),
    ("national", "system: national-portal", "system: ward-tan-dinh", "national.yaml:3:3: portal.system: ward-tan-dinh is no system of that sort in systems.yaml"),
    ("national", "system: national-portal", "system: national-portal\n  variant: ministery", "national.yaml:4:3: portal.variant: must be 'lgsp' or 'ministry' (did you mean ministry?)"),
    ("contracts", DELIVERED, "", "national.yaml:3:3: portal.system: national-portal has no contract in contracts.yaml"),
    ("contracts", "dossier: {fields: all}", "dossier: {fields: all, mask: {applicant_phone: last4}}", "national.yaml:3:3: portal.system: the contract of national-portal masks dossier.applicant_phone"),
]  # fmt: skip


@pytest.mark.parametrize("case", NATIONAL_CASES, ids=named)
def test_a_mistake_about_national_services_is_reported_with_its_place(tmp_path: Path, case: Case) -> None:
    found = assert_reported(tmp_path, case, WITH_NATIONAL, NATIONAL_ENV)
    assert "hush" not in "".join(found)


PAGE = Path(__file__).parents[2] / "docs/onboarding.md"
PAGE_PROFILES = [
    block for block in re.findall(r"```yaml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL) if "profile: ward-" in block and "entities:" in block
]


@pytest.mark.parametrize("text", PAGE_PROFILES, ids=lambda text: text.partition("profile: ")[2].partition("\n")[0])
def test_every_profile_of_the_onboarding_page_is_correct(tmp_path: Path, text: str) -> None:
    name = text.partition("profile: ")[2].partition("\n")[0]
    write(tmp_path, {**FILES, "systems": SYSTEMS.replace("ward-new", name), f"profiles/{name}": text})
    (tmp_path / "authority.yaml").unlink()  # it covers other entities than the page's profiles have
    assert {line.split(":")[0] for line in problems(tmp_path)} == {"authority.yaml"}


def test_the_onboarding_pages_folder_from_nothing_is_correct(tmp_path: Path) -> None:
    named = re.findall(r"```yaml\n# config/([a-z/-]+)\.yaml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert [name for name, _ in named] == ["profiles/ward-simple", "systems", "authority", "contracts"]
    loaded = load(write(tmp_path, dict(named)), {"HUB_DSN": "x", "KAFKA_BOOTSTRAP": "x", "WARD_TAN_DINH_DSN": "x"})
    assert set(loaded.systems) == {"ward-tan-dinh"}


def test_a_key_that_is_missing_is_named_with_what_to_write(tmp_path: Path) -> None:
    write(tmp_path, {**FILES, "systems": SYSTEMS.replace('hub: {dsn: "${HUB}"}\n', "")})
    assert problems(tmp_path) == ['systems.yaml:1:1: the key hub is missing (add hub: {dsn: "${HUB_DSN}"})']


def test_the_onboarding_page_names_every_key_and_every_reader() -> None:
    page = PAGE.read_text("utf-8")
    models = (Profile, EntityMap, FieldMap, Part)
    words = {name for model in models for name in model.model_fields} | set(READERS)
    assert [word for word in sorted(words - {"version", "description"}) if f"`{word}" not in page] == []
