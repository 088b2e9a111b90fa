"""Working groups unknown to the package, as a user would define them."""

from __future__ import annotations

from ecowas_lc.twg import TWG

HEALTH = TWG(
    id="health",
    name="Health & Epidemics",
    prompt="You are the health working group.",
    terms={
        "en": ["hospital*", "vaccin*", "epidemic*", "nurse*", "malaria", "public health"],
        "fr": ["hôpita*", "vaccin*", "épidémi*", "infirmi*", "paludisme"],
        "pt": ["hospita*", "vacina*", "epidemi*", "enfermeir*", "malária"],
    },
    description="Public health: hospitals, vaccination, epidemics and disease control, health workers, medicines.",
)

SPORT = TWG(
    id="sport",
    name="Sport",
    prompt="You are the sports working group.",
    terms={"en": ["football*", "stadium*", "athlet*"]},
    description="Sport: football, athletics, stadiums and tournaments.",
)

DESCRIBED_ONLY = TWG(
    id="tourism",
    name="Tourism & Culture",
    prompt="You are the tourism working group.",
    description="Travel for pleasure: beaches, museums, festivals, heritage sites, hoteliers and tour operators.",
)
