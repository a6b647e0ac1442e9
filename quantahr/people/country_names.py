"""How countries are written in policies: names, abbreviations and what their people are called."""

from typing import Final

_TABLE: Final = """
Argentina, Argentine, Argentinian | Australia, Australian | Austria, Austrian | Bangladesh | Belgium, Belgian
Brazil, Brazilian | Bulgaria, Bulgarian | Canada, Canadian | Chile, Chilean | China, Chinese | Colombia, Colombian
Croatia, Croatian | Cyprus, Cypriot | Czech Republic, Czechia, Czech | Denmark, Danish | Egypt, Egyptian
Estonia, Estonian | Finland, Finnish | France, French | Germany, German, Deutschland | Greece, Greek
Hong Kong | Hungary, Hungarian | Iceland, Icelandic | India, Indian | Indonesia, Indonesian
Ireland, Irish, Republic of Ireland | Israel, Israeli | Italy, Italian | Japan, Japanese | Kenya, Kenyan
Latvia, Latvian | Lithuania, Lithuanian | Luxembourg | Malaysia, Malaysian | Malta, Maltese | Mexico, Mexican
Morocco, Moroccan | Netherlands, Dutch, Holland | New Zealand | Nigeria, Nigerian | Norway, Norwegian
Pakistan, Pakistani | Peru, Peruvian | Philippines, Filipino | Poland, Polish | Portugal, Portuguese | Romania, Romanian
Saudi Arabia, Saudi | Serbia, Serbian | Singapore, Singaporean | Slovakia, Slovak | Slovenia, Slovenian
South Africa, South African | South Korea, Korean | Spain, Spanish | Sri Lanka | Sweden, Swedish
Switzerland, Swiss | Taiwan, Taiwanese | Thailand, Thai | Tunisia, Tunisian | Turkey, Turkish, Türkiye
Ukraine, Ukrainian | United Arab Emirates, UAE, Dubai
United Kingdom, UK, U.K., Great Britain, Britain, British, England, Scotland, Wales, Welsh, Northern Ireland
United States, USA, US, U.S., American, United States of America | Uruguay | Vietnam, Vietnamese
"""

NAMES: Final[dict[str, tuple[str, ...]]] = {
    names[0]: names
    for line in _TABLE.strip().splitlines()
    for names in (tuple(name.strip() for name in entry.split(",")) for entry in line.split("|"))
}
"""Country → every way it is written; the first is the country itself."""
