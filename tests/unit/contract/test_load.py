from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path

import pytest

from pilotis.contract.load import ContractFaults, default, find, load, parse
from pilotis.errors import ContractError

TOML, JSON = Path("pilotis.toml"), Path("pilotis.json")


def fault(text: str, path: Path = TOML) -> str:
    """The message and the remedy of the one thing that is wrong in `text`."""
    with pytest.raises(ContractError) as caught:
        parse(text, path)
    assert caught.value.remedy
    return f"{caught.value.message} → {caught.value.remedy}"


def test_money_keeps_every_digit_from_both_formats() -> None:
    exact = Decimal("0.100000000000001")
    assert parse("[costs]\nguardrail_eur_per_req = 0.100000000000001", TOML).costs.guardrail_eur_per_req == exact
    assert parse('{"costs": {"guardrail_eur_per_req": 0.100000000000001}}', JSON).costs.guardrail_eur_per_req == exact


def test_whole_numbers_are_money_too() -> None:
    amount = parse("[costs]\ntarget_eur_per_1k = 16", TOML).costs.target_eur_per_1k
    assert amount == 16
    assert isinstance(amount, Decimal)


def test_a_contract_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        default().name = "other"  # type: ignore[misc]


def test_an_empty_table_is_a_contract_of_defaults() -> None:
    assert list(parse("{}", JSON).envs) == ["dev", "staging", "prod"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[perf]\ntok_in_maxx = 1200", "pilotis.toml:2: perf.tok_in_maxx = 1200: unknown key → Did you mean tok_in_max?"),
        ("[costs]\ntargt = 1", "costs.targt = 1: unknown key → Did you mean target_eur_per_1k?"),
        ("top_k = 3", "pilotis.toml:1: top_k = 3: unknown key here → It belongs in [envs.NAME]."),
        ("[envs.prod]\nname = 'x'", 'envs.prod.name = "x": unknown key here → It belongs at the top of the file'),
        ("[envs.prod]\ntok_out_mx = 1", "unknown key → Did you mean tok_out_max, in [perf]?"),
        ('[perf]\nbatch_emb = "128"', 'perf.batch_emb = "128": must be a whole number → Write it without quotes'),
        ("[perf]\nbatch_emb = 128.0", "perf.batch_emb = 128.0: must be a whole number"),
        ("[perf]\nbatch_emb = true", "perf.batch_emb = true: must be a whole number"),
        ("[perf]\nstreaming = 1", "perf.streaming = 1: must be true or false"),
        ('[costs]\ntarget_eur_per_1k = "16.5"', "must be a number → Write it without quotes"),
        ('[costs]\ntarget_eur_per_1k = "16,5"', "decimals after a point: 16.5"),
        ("[costs]\ntarget_eur_per_1k = 16,5", "pilotis.toml:2:23: not valid TOML"),
        ("[costs]\ntarget_eur_per_1k = 16,5", "→ Write decimals with a point: 16.5."),
        ("[costs]\ntarget_eur_per_1k = nan", "must be a finite number"),
        ("[costs]\ntarget_eur_per_1k = inf", "must be a finite number"),
        ("[costs]\ntarget_eur_per_1k = -1", "must be more than 0"),
        ("[costs]\ntarget_eur_per_1k = 0", "must be more than 0"),
        ("[costs]\ntarget_eur_per_1k = 1e30", "must be at most 1000000000"),
        ("[costs]\nguardrail_eur_per_req = 1e-30", "has more than 15 decimals"),
        ("[costs]\ncurrency = 'USD'", 'costs.currency = "USD": is none of EUR'),
        ("[infra]\nvector = 'pgvectr'", "is none of pgvector, opensearch, weaviate → Did you mean pgvector?"),
        ("[envs.prod]\nflags = ['rernk']", 'envs.prod.flags[0] = "rernk": must be hybrid, rerank, or prompt_v'),
        ("[envs.prod]\nretrieval = ['phrase']", "is none of phrases, distinct, abstain → Did you mean phrases?"),
        ("[envs.prod]\nflags = 'rerank'", "must be a list → Write it between square brackets."),
        ("[envs.prod]\ntrace_sampling = 1.5", "must be at most 1"),
        ("[envs.prod]\nllm = 3", "or a model's name between quotes"),
        ("[envs.prod]\nllm = ''", "must not be empty"),
        ("[envs.Prod]\n", "must be lower-case letters, digits and hyphens"),
        ("[envs]\n", "must have at least 1 entry"),
        ("envs = 3", "envs = 3: must be a table"),
        ("perf = 3", "perf = 3: must be a table"),
        ("timezone = 'Europe/Pari'", "is not a time zone of the IANA database"),
        ("timezone = '../etc/passwd'", "is not a time zone of the IANA database"),
        ("languages = []", "must have at least 1 entry"),
        ("languages = ['french']", "must be a code of two letters"),
        ("[deploy]\nstages = [5, 3, 100]", "stages = [5, 3, 100] must rise and end at 100"),
        ("[deploy]\nstages = [5, 25]", "must rise and end at 100"),
        ("[perf]\npool_min = 60", "pool_min = 60 must be at most pool_max = 50 → Lower pool_min or raise pool_max."),
        ("[perf]\nfirst_byte_s = 121", "first_byte_s = 121 must be at most total_s = 120"),
        ("[perf]\npassage_overlap = 200", "passage_overlap = 200 must be less than passage_tokens = 200"),
        ("[costs.fx]\nusd_per_eur = 1.1", "costs.fx.date: is missing → Add date to [costs.fx]."),
        ("[costs.fx]\nusd_per_eur = 0\ndate = 2025-06-30", "costs.fx.usd_per_eur = 0: must be more than 0"),
        ("[costs.fx]\nusd_per_eur = 1\ndate = '30/06/2025'", "is not a date of the calendar"),
        ("[costs.fx]\nusd_per_eur = 1\ndate = 2025-06-30T00:00:00Z", "must be a date without a time"),
        ('[costs.prices."gpt-5.1"]\ncurrency = "EUR"', 'costs.prices."gpt-5.1" = {…}: names no price'),
        ('[costs.prices."a.b"]\ninputt_per_mtok = 1', 'pilotis.toml:2: costs.prices."a.b".inputt_per_mtok = 1: unknown key'),
        ("[costs]\nmonth_eur = 0.0000001", "has more than 6 decimals"),
        ("[costs]\non_unknown_price = 'cheapest'", "is none of block, dearest, serve"),
        ("[costs]\nladder = ['no_rerank', 'no_rerank']", 'costs.ladder = ["no_rerank", "no_rerank"]: names no_rerank twice'),
        ("[costs]\nladder = ['refuse', 'no_rerank']", "goes on after a step at which no model is asked"),
        ("[costs]\nladder = ['refuse', 'cache_only']", "Write cache_only and refuse last, in this order."),
        ("[costs]\nladder = ['no_reranker']", 'costs.ladder[0] = "no_reranker": is none of'),
        ("[costs]\nladder = ['no_reranker']", "Did you mean no_rerank?"),
        ("[costs]\nladder = 'refuse'", "must be a list"),
        ("[costs]\nguardrail_min_sample = 0", "must be at least 1"),
        (
            "[[costs.prices.m]]\n[[costs.prices.n]]\ninput_per_mtok = 1",
            "pilotis.toml:1: costs.prices.m[0] = {}: names no price",
        ),
        (
            "[[costs.prices.m]]\ninput_per_mtok = 1\n[[costs.prices.m]]\nvalid_from = 2026-01-01\ninput_per_mtk = 1",
            "pilotis.toml:5: costs.prices.m[1].input_per_mtk = 1: unknown key → Did you mean input_per_mtok?",
        ),
        (
            "costs.prices.m = [{ valid_from = 2026-02-01, per_1k_calls = 1 }, { valid_from = 2026-01-01, per_1k_calls = 2 }]",
            "has entries out of order → Write the oldest first",
        ),
        ("[[costs.prices.m]]\ninput_per_mtok = 1\n[[costs.prices.m]]\ninput_per_mtok = 2", "has entries out of order"),
        (
            "costs.prices.m = [{ valid_from = 2026-02-01, per_1k_calls = 1 }, { valid_from = 2026-02-01, per_1k_calls = 2 }]",
            "has entries out of order",
        ),
        ("[costs]\nprices.m = []", "costs.prices.m = []: names no price"),
        ("[costs.prices]\nm = 3", "costs.prices.m = 3: must be a table"),
        ("[infra]\ntrusted_hops = -1", "must be at least 0"),
        ("[perf]\nin_flight = 0", "must be at least 1"),
        ("[envs.prod]\ntrusted_hops = 1", "unknown key here → It belongs in [infra]."),
        ("[envs.prod.rates]\nenv = 0", "envs.prod.rates.env.per_s = 0: must be more than 0"),
        ("[envs.prod.rates]\nenv = '5'", "envs.prod.rates.env"),
        ("[envs.prod.rates]\nip = { per_s = 5, brst = 3 }", "envs.prod.rates.ip.brst = 3: unknown key → Did you mean burst?"),
        ("[envs.prod.rates]\nip = { per_s = 5, burst = 0 }", "must be at least 1"),
        ("[envs.prod.rates]\nip = { burst = 3 }", "envs.prod.rates.ip.per_s: is missing"),
        ("[envs.prod.rates]\nbuss.sales = 5", "envs.prod.rates.buss = {…}: unknown key → Did you mean bus?"),
        ("[envs.prod.rates]\nbus.'' = 5", "must not be empty"),
        ("[envs.prod.rates]\nbus.' ' = 5", "must be printable and not blank"),
        (f"[envs.prod.rates]\nbus.{'x' * 101} = 5", "is longer than 100 characters"),
        ("[envs.prod.budgets]\nenv = {}", "envs.prod.budgets.env = {}: names no limit"),
        ("[envs.prod.budgets]\nenv = 5", "envs.prod.budgets.env = 5: must be a table"),
        ("[envs.prod.budgets]\nenv = { hour_eur = 0 }", "must be more than 0"),
        ("[envs.prod.budgets]\nenv = { week_eur = 1 }", "envs.prod.budgets.env.week_eur = 1: unknown key"),
        (
            '[envs.prod.budgets]\nbus."R&D" = { day = 1 }',
            'envs.prod.budgets.bus."R&D".day = 1: unknown key → Did you mean day_eur?',
        ),
        ("[envs.prod.budgets]\nplanes.offline = { day_eur = 1 }", "planes.offline = {…}: unknown key → Did you mean online?"),
        ("[envs.prod]\nhour_eur = 1", "unknown key here → It belongs in"),
        ("[envs.dev]\nllm = { model = 'extractive', key_env = 'KEY' }", '"extractive" runs in the service itself'),
        ("[envs.dev]\nllm = { model = 'm', base_url = 'ftp://h' }", "must be an http or https address"),
        ("name = 'a'\nname = 'b'", "pilotis.toml:2"),
        ("[envs.dev\n", "pilotis.toml:1"),
        ("name = rag", "Put text between double quotes."),
        ("[perf]\nstreaming = True", "Write true or false."),
        ('{"name": "rag"}', "This looks like JSON: give it a name that ends in .json."),
        ("", "pilotis.toml is empty"),
        (" \n\t", "pilotis contract export --toml"),
    ],
)
def test_a_fault_says_where_what_and_what_to_do(text: str, expected: str) -> None:
    assert expected in fault(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[1]", "holds a list"),
        ("3", "holds a number"),
        ('"text"', "holds a string"),
        ('{"name": "a", "name": "b"}', 'the key "name" is there twice'),
        ('{"costs": {"target_eur_per_1k": NaN}}', "NaN is not a number that can be paid"),
        ('{"costs": {"target_eur_per_1k": Infinity}}', "Infinity is not a number"),
        ('{"name": "rag",}', "pilotis.json:1:"),
        ('{\n"name" "rag"}', "pilotis.json:2:8: not valid JSON"),
        ('[envs.dev]\nllm = "extractive"', "This looks like TOML: name it pilotis.toml."),
        ('{"name": "\\ud800"}', "is not valid Unicode"),
        ('{"perf": null}', "must be a table"),
        ("[" * 100_000, "not valid JSON"),
        ('{"perf": {"batch_emb": ' + "9" * 5000 + "}}", "not valid JSON"),
    ],
)
def test_faults_of_json(text: str, expected: str) -> None:
    assert expected in fault(text, JSON)


@pytest.mark.parametrize(
    "text",
    [
        "[envs.prod]\napi_key = 'sk-very-secret'",
        "[envs.prod]\nllm = { model = 'm', key_env = 'sk-very-secret' }",
        "[envs.prod]\nllm = { model = 'm', base_url = 'https://me:sk-very-secret@host/v1' }",
        "[envs.prod]\nllm = { model = 'm', base_url = 'https://host/v1?key=sk-very-secret' }",
        "[envs.prod]\npassword = 'sk-very-secret'",
        "[envs.prod]\nllm = { model = 'm', api_key = 'sk-very-secret' }",
    ],
)
def test_a_secret_is_refused_and_not_repeated(text: str) -> None:
    said = fault(text)
    assert "sk-very-secret" not in said
    assert "environment variable" in said


def test_all_faults_are_told_at_once_in_the_order_of_the_file() -> None:
    text = "top_k = 3\n[perf]\nbatch_emb = 0\n[costs]\ncurrency = 'USD'\n[envs.dev]\ntopk = 3\n[envs.prod]\ntop_k = 'x'\n"
    with pytest.raises(ContractFaults) as caught:
        parse(text, TOML)
    assert [(fault.line, fault.key) for fault in caught.value.faults] == [
        (1, "top_k"),
        (3, "perf.batch_emb"),
        (5, "costs.currency"),
        (7, "envs.dev.topk"),
        (9, "envs.prod.top_k"),
    ]
    assert caught.value.message.startswith("pilotis.toml has 5 faults:")
    assert all(fault.remedy in caught.value.message for fault in caught.value.faults)


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "pilotis.toml"
    path.write_bytes(b"\xef\xbb\xbfname = 'x'\n")
    assert load(path).name == "x"


def test_a_file_that_is_not_utf8_tells_the_line(tmp_path: Path) -> None:
    path = tmp_path / "pilotis.toml"
    path.write_bytes("name = 'x'\n# été".encode("latin-1"))
    with pytest.raises(ContractError, match=r"pilotis\.toml:2: byte 0xe9 is not UTF-8"):
        load(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"There is no contract at .*nowhere\.toml"):
        load(tmp_path / "nowhere.toml")


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "contract.yaml"
    path.write_text("name: rag")
    with pytest.raises(ContractError, match=r"ends in \.toml or \.json"):
        load(path)


def test_a_huge_file_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "pilotis.toml"
    path.write_bytes(b"#" * (1 << 20) + b"#")
    with pytest.raises(ContractError, match="larger than 1 MiB"):
        load(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "pilotis.toml"
    path.write_text("")
    path.chmod(0)
    with pytest.raises(ContractError, match="cannot be read: Permission denied"):
        load(path)


def test_a_folder_stands_for_the_contract_in_it(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="holds no contract"):
        load(tmp_path)
    (tmp_path / "pilotis.json").write_text('{"name": "json"}')
    assert load(tmp_path).name == "json"
    (tmp_path / "pilotis.toml").write_text("name = 'toml'")
    with pytest.raises(ContractError, match=r"two contracts here: .*pilotis\.toml and .*pilotis\.json"):
        load(tmp_path)


def test_where_a_contract_is_looked_for(tmp_path: Path) -> None:
    told = {"PILOTIS_CONTRACT": "told.toml"}
    assert find(tmp_path, None, {}) is None
    assert find(tmp_path, None, {"PILOTIS_CONTRACT": ""}) is None
    (tmp_path / "pilotis.toml").touch()
    assert find(tmp_path, None, {}) == tmp_path / "pilotis.toml"
    assert find(tmp_path, None, told) == tmp_path / "told.toml"
    assert find(tmp_path, Path("named.json"), told) == tmp_path / "named.json"
    (tmp_path / "pilotis.json").touch()
    with pytest.raises(ContractError, match="two contracts"):
        find(tmp_path, None, {})
    assert find(tmp_path, Path("named.json"), {}) == tmp_path / "named.json"
