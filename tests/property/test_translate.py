"""A translation changes nothing but ct matches, and never fails."""

from hypothesis import given
from hypothesis import strategies as st

from conntrackd_py.kernel.doctor.findings import Context
from conntrackd_py.kernel.translate import iptables_text, nft_text
from conntrackd_py.settings.schema import Settings, Steering
from tests.property.test_odd_rulesets import saves

CONTEXTS = [Context(Settings(steering=Steering(exclude_interfaces=names))) for names in ((), ("lo",), ("mgmt0",))]
IPTABLES_WORDS = (
    "-A -I -j -m ! FORWARD INPUT OUTPUT ACCEPT mark comment tcp --comment --dport 22 \" ' \\ [1:2] \udcff \r"
)
NFT_WORDS = (
    "table chain inet ip t c { } ; \n type filter hook forward output priority 0 policy drop add rule insert iifname "
    '"lo" lo accept jump vmap , : . == != | @ $x # \\ * counter meta mark set comment "a b" elements = \udcff \r'
)
CT_WORDS = f"{NFT_WORDS} ct ct ct state state direction status new established related untracked original"


def texts(words: str) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(words.split(" ")), max_size=40).map(" ".join)


CHAIN = "table inet t {{ chain c {{ type filter hook forward priority 0\n {}\n }} }}\n"


@given(texts(IPTABLES_WORDS + " -A\tFORWARD \n*filter\n :own"), st.sampled_from(CONTEXTS))
def test_rules_of_iptables_without_ct_stay(text: str, context: Context) -> None:
    done = iptables_text.translate(text, context)
    assert (done.text, done.translated, done.remarks) == (text, 0, [])


@given(texts(NFT_WORDS), st.sampled_from(CONTEXTS))
def test_rules_of_nft_without_ct_stay(text: str, context: Context) -> None:
    for whole in (text, CHAIN.format(text)):
        done = nft_text.translate(whole, context)
        assert (done.text, done.translated, done.remarks) == (whole, 0, [])


@given(saves(), st.sampled_from(CONTEXTS))
def test_other_lines_of_iptables_stay(text: str, context: Context) -> None:
    done = iptables_text.translate(text, context)
    lines = [line for line in text.split("\n") if "conntrack" not in line]
    assert [line for line in done.text.split("\n") if line in set(lines)] == lines


@given(texts(CT_WORDS), st.sampled_from(CONTEXTS))
def test_odd_text_of_nft_is_translated_or_listed(text: str, context: Context) -> None:
    whole = CHAIN.format(text)
    done = nft_text.translate(whole, context)
    assert done.text.startswith("table inet t {")
    assert done.translated or done.text == whole


@given(texts(CT_WORDS), st.sampled_from(CONTEXTS[:1]))
def test_a_translation_needs_no_translation(text: str, context: Context) -> None:
    once = nft_text.translate(CHAIN.format(text), context).text
    assert nft_text.translate(once, context).text == once
