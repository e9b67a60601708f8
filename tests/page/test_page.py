import json
import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from shutil import which

import numpy as np
import pytest
from helpers.translations import soft

from heed.alignment.words import merge_words
from heed.page import page
from heed.page.page import Chart, Table, write_page
from heed.page.sentences import Shown, load_sentences, save_sentences
from heed.text.printable import printable

END = "</s>"
STEP = 1 / 63  # between two weights that are stored
ATTACKS = [
    "</script><script>window.pwned=1</script>",
    "<img src=x onerror=window.pwned=1>",
    '"><svg onload="window.pwned=1">',
    "' onmouseover=window.pwned=1 x='",
    "<!--<script>",
    "</style><style>*{display:none}</style>",
    "{{7*7}}{% raw %}",
    "javascript:window.pwned=1",
    "&lt;b&gt;\u2028\u2029",
    "\u202eevil\u2066\x00\x1b[31m",
    "__proto__",
]
TEXTS = [
    *ATTACKS,
    "مرحبا",
    "שלום",
    "日本語",
    "👩\u200d🏫",
    "e\u0301",
    "नमस्ते",
    "a\nb\r\tc\x85d",
    " ",
    "",
    "\ufeff",
    "\U0010ffff",
]


def made_up(num_sentences: int, systems: tuple[str, ...], seed: int = 3) -> dict:
    """Sentences as long as Multi30k's; each has its number as the first word of its source."""
    draw = np.random.default_rng(seed)

    def words(mean: int) -> list[str]:
        number = max(1, round(draw.normal(mean, 4)))
        return ["".join(draw.choice(list("abcdeßü"), draw.integers(1, 10))) for _ in range(number)]

    sources = [[f"n{i}", *words(10), END] for i in range(num_sentences)]
    translations = {name: [[*words(12), END] for _ in sources] for name in systems}
    return {
        "source_words": sources,
        "references": [" ".join(words(12)) for _ in sources],
        "systems": {
            name: [
                Shown(own, soft(len(own), len(source), i), round(float(draw.uniform(0, 100)), 2))
                for i, (own, source) in enumerate(zip(many, sources, strict=True))
            ]
            for name, many in translations.items()
        },
    }


class Elements(HTMLParser):
    """The texts of scripts and styles, and the content security policy."""

    def __init__(self, text: str):
        super().__init__()
        self.data = self.policy = self.tag = ""
        self.running: dict[str, str] = {}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tag, self.attrs = tag, dict(attrs)
        if self.attrs.get("http-equiv") == "Content-Security-Policy":
            self.policy = self.attrs["content"]

    def handle_data(self, data):
        if self.tag in ("script", "style") and data.strip():
            if self.attrs.get("type") == "application/json":
                self.data += data
            else:
                self.running[self.tag] = self.running.get(self.tag, "") + data
        self.tag = self.tag if self.tag in ("script", "style") else ""

    def handle_endtag(self, tag):
        self.tag = ""


# --- words ---


@pytest.mark.parametrize(
    ("pieces", "words", "places"),
    [
        (["▁Der", "▁Hu", "nd", ".", END], ["Der", "Hund.", END], [0, 1, 1, 1, 2]),
        (["De", "r", "▁Hund"], ["Der", "Hund"], [0, 0, 1]),  # no mark on the first, and no end
        (["▁", "Der", "▁", "▁Hund", END], ["Der", "Hund", END], [0, 0, 1, 1, 2]),
        (["a", "b", "▁", "c", "▁", END], ["ab", "c", "▁", END], [0, 0, 1, 1, 2, 3]),  # characters
        (["Der", "Hund", "unfug</s>", END], ["Der", "Hund", "unfug</s>", END], [0, 1, 2, 3]),  # words
        (["▁私", "は", "学生", END], ["私", "は", "学生", END], [0, 1, 2, 3]),  # no spaces
        (["▁", "私", "は", END], ["私", "は", END], [0, 0, 1, 2]),
        # characters that are no pieces, by their bytes: É, and two of Chinese beside one that is a piece
        (["▁", "<0xC3>", "<0x89>", "ric", "▁", "<0x7B>", "<0x7D>"], ["Éric", "{}"], [0, 0, 0, 0, 1, 1, 1]),
        (
            ["▁", "<0xE4>", "<0xBD>", "<0xA0>", "<0xE5>", "<0xA5>", "<0xBD>", "私"],
            ["你", "好", "私"],
            [0] * 4 + [1] * 3 + [2],
        ),
        (["<0xFF>", "<0x41>", "</s>"], ["�", "A", END], [0, 1, 2]),
        (["我", "<0x80>", "</s>"], ["我", "�", END], [0, 1, 2]),  # a byte that nothing has begun
        (["▁a", "<0x0A>", "<0x1B>", "b"], ["a\\n\\x1bb"], [0, 0, 0, 0]),
        (["▁Ja", END], ["Ja", END], [0, 1]),
        (["▁", END], ["▁", END], [0, 1]),
        ([END], [END], [0]),
        (["▁a", END, "b", "▁c"], ["a", END, "b", "c"], [0, 1, 2, 3]),
    ],
)
def test_words_of_pieces(pieces, words, places):
    """Target words have the mean of their pieces' rows, source words the sum of their columns."""
    other = ["x", "y", "z"]
    weights = soft(len(pieces), 3)
    found, other_words, merged = merge_words(pieces, other, weights)
    assert (found, other_words) == (words, other)
    for word in range(len(words)):
        rows = [weights[i] for i, place in enumerate(places) if place == word]
        np.testing.assert_allclose(merged[word], np.mean(rows, 0), rtol=1e-6)
    weights = soft(3, len(pieces))
    other_words, found, merged = merge_words(other, pieces, weights)
    assert (other_words, found) == (other, words)
    for word in range(len(words)):
        columns = [weights[:, i] for i, place in enumerate(places) if place == word]
        np.testing.assert_allclose(merged[:, word], np.sum(columns, 0), rtol=1e-6)
    np.testing.assert_allclose(merged.sum(1), 1, rtol=1e-6)


def test_words_of_both_sides_by_hand():
    alignment = np.array([[0.5, 0.25, 0.25, 0], [0, 0.5, 0.5, 0], [0, 0, 0, 1]], np.float32)
    words, src_words, merged = merge_words(["▁日", "本", END], ["▁c", "▁d", "e", END], alignment)
    assert (words, src_words) == (["日", "本", END], ["c", "de", END])  # what has no spaces is left in pieces
    assert merged.tolist() == [[0.5, 0.5, 0], [0, 1, 0], [0, 0, 1]]
    words, _, merged = merge_words(["▁a", "b", END], ["▁c", "▁d", "e", END], alignment)
    assert words == ["ab", END]
    assert merged.tolist() == [[0.25, 0.75, 0], [0, 0, 1]]
    words, _, merged = merge_words(["▁a", "b", "▁c"], ["▁c", "▁d", "e", END], alignment)
    assert words == ["ab", "c"]
    assert merged.tolist() == [[0.25, 0.75, 0], [0, 0, 1]]


def test_an_empty_alignment_has_no_words():
    words, src_words, merged = merge_words([], [], np.zeros((0, 0), np.float32))
    assert (words, src_words, merged.shape) == ([], [], (0, 0))


# --- the file of sentences ---


def test_sentences_come_back(tmp_path):
    path = tmp_path / "sentences.jsonl"
    sources = [[*TEXTS[i:], END] for i in range(len(TEXTS))] + [[], ["Ja", END]]
    shown = [Shown([*TEXTS[::-1]], soft(len(TEXTS), len(source), i), i / 3) for i, source in enumerate(sources)]
    shown[-2:] = [
        Shown([], np.zeros((0, 0), np.float32), 0.0),
        Shown(["Yes"], np.zeros((0, 0), np.float32), 0.0),
    ]
    references = [*TEXTS, "", "Yes"]
    save_sentences(path, sources, references, shown)
    assert path.read_bytes().count(b"\n") == len(sources)
    read = load_sentences(path)
    assert read[:2] == (sources, references)
    for before, after in zip(shown, read[2], strict=True):
        assert (before.words, before.bleu) == (after.words, after.bleu)
        assert after.weights.dtype == np.float32
        np.testing.assert_allclose(before.weights, after.weights, rtol=0, atol=STEP / 2 + 1e-6)
    again = tmp_path / "again.jsonl"
    save_sentences(again, *read)
    assert again.read_bytes() == path.read_bytes()


def test_no_sentences_come_back(tmp_path):
    save_sentences(tmp_path / "sentences.jsonl", [], [], [])
    assert load_sentences(tmp_path / "sentences.jsonl") == ([], [], [])


GOOD = {"source": ["a", "b"], "reference": "c", "words": ["c"], "weights": "A/", "bleu": 3.5}


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"{",
        b"[]",
        b"3",
        b"\xff",
        json.dumps({key: GOOD[key] for key in GOOD if key != "bleu"}).encode(),
        *(
            json.dumps(GOOD | change).encode()
            for change in (
                {"weights": "AAA"},
                {"weights": "A?"},
                {"weights": [0, 1]},
                {"words": "c"},
                {"words": [1]},
                {"source": None},
                {"reference": 7},
                {"bleu": "many"},
            )
        ),
    ],
)
def test_a_bad_line_is_named(tmp_path, bad):
    path = tmp_path / "sentences.jsonl"
    good = json.dumps(GOOD).encode()
    path.write_bytes(b"\n".join([good, good]) + b"\n")
    assert load_sentences(path)[2][1].weights.tolist() == [[0, 1]]
    path.write_bytes(b"\n".join([good, bad, good]))
    with pytest.raises(ValueError, match=r"sentences\.jsonl, line 2: .*Evaluate the run again"):
        load_sentences(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"references": ["r"]}, "references: 1 sentences, but 2 sources"),
        ({"systems": {"dot": [Shown([], np.zeros((0, 0)), 0.0)]}}, "dot: 1 sentences, but 2 sources"),
        (
            {"systems": {"dot": [Shown(["a"], np.ones((1, 2)), 0.0)] * 2}},
            r"dot, sentence 2: .*\(1, 2\).*1 words and 3",
        ),
    ],
)
def test_what_does_not_fit_together_is_named(tmp_path, change, message):
    fitting = {"source_words": [["a", "b"], ["a", "b", "c"]], "references": ["r", "r"], "systems": {}}
    with pytest.raises(ValueError, match=message):
        write_page(tmp_path / "page.html", title="", **fitting | change)


# --- the page as a file ---


def test_a_thousand_sentences_of_three_systems_fit(tmp_path):
    path = tmp_path / "page.html"
    assert write_page(path, title="three", **made_up(1000, ("a", "b", "c"))) == 1000
    assert path.stat().st_size < 2_000_000
    assert "sentences, to stay small" not in path.read_text()


@pytest.mark.parametrize("room", [5_000, 20_000, -1_000])
def test_what_does_not_fit_is_left_out_and_said(tmp_path, room):
    path, inputs = tmp_path / "page.html", made_up(1200, ("a", "b"))
    write_page(path, title="cut", budget=0, **inputs)  # a page without sentences is written all the same
    budget = path.stat().st_size + room
    shown = write_page(path, title="cut", budget=budget, **inputs)
    text = path.read_text()
    assert f"the first {shown} of 1,200 sentences, to stay small" in text
    found = json.loads(Elements(text).data)["sentences"]
    assert len(found) == shown
    if room > 0:
        assert budget - 2 * max(len(json.dumps(one)) for one in found) < path.stat().st_size <= budget
    else:
        assert shown == 0


def test_of_very_long_sentences_there_are_the_words_alone(tmp_path):
    """Their heat maps would take a browser many seconds, and the room of all other sentences."""
    path, words = tmp_path / "page.html", ["w"] * 201
    shown = [Shown(words[:n], np.full((n, 200), 0.005, np.float32), 50.0) for n in (200, 201)]
    assert (
        write_page(path, title="long", source_words=[words[:200]] * 2, references=["w"] * 2, systems={"a": shown}) == 2
    )
    found = [one[2][0] for one in json.loads(Elements(path.read_text()).data)["sentences"]]
    assert [(len(words), len(weights)) for words, weights, _ in found] == [(200, 40_000), (201, 0)]


def test_the_data_is_what_was_given(tmp_path):
    path, inputs = tmp_path / "page.html", made_up(17, ("2", "1.5", *ATTACKS))
    points = [(0.0, 1.5), (2.0, float("nan")), (3.0, -4.0)]
    write_page(path, title="", charts=[Chart("c", "x", "y", {"2": points, "1": []})], **inputs)
    data = json.loads(Elements(path.read_text()).data)
    assert data["systems"] == [printable(name) for name in inputs["systems"]]
    assert data["charts"][0]["lines"] == [
        {"name": "2", "points": [[0, 1.5], [3, -4]]},
        {"name": "1", "points": []},
    ]
    for number, (source, reference, systems) in enumerate(data["sentences"]):
        assert (source, reference) == (inputs["source_words"][number], inputs["references"][number])
        for (words, weights, bleu), shown in zip(systems, inputs["systems"].values(), strict=True):
            assert (words, bleu) == (shown[number].words, shown[number].bleu)
            assert len(weights) == shown[number].weights.size


def test_the_policy_names_the_script_and_the_style_and_nothing_else(tmp_path):
    write_page(tmp_path / "page.html", title="", **made_up(1, ("a",)))
    elements = Elements((tmp_path / "page.html").read_text())
    for kind, text in elements.running.items():
        digest = b64encode(sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}';" in elements.policy
    assert set(elements.running) == {"script", "style"} and "default-src 'none'" in elements.policy


def colours(scheme: str) -> dict[str, np.ndarray]:
    """The RGB of each variable of the style sheet, 0 to 1, in light or dark."""
    css = Path(page.__file__).with_name("style.css").read_text()
    block = re.findall(r":root \{(.*?)\}", css, re.DOTALL)[("light", "dark").index(scheme)]
    found = {}
    for name, value in re.findall(r"--([\w]+): ([^;]+);", block):
        if value.startswith("#"):
            digits = value[1:] if len(value) == 7 else "".join(2 * one for one in value[1:])
            value = " ".join(str(int(digits[i : i + 2], 16)) for i in (0, 2, 4))
        found[name] = np.array([int(one) for one in value.split()]) / 255
    return found


def contrast(one: np.ndarray, other: np.ndarray) -> float:
    """Return the contrast as WCAG 2.2 defines it."""
    linear = [np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) for c in (one, other)]
    low, high = sorted(float(c @ [0.2126, 0.7152, 0.0722]) for c in linear)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_colours_have_the_contrast_of_wcag_aa(scheme):
    colour = colours(scheme)
    for text in ("ink", "muted"):
        for ground in ("page", "surface", "chosen"):
            assert contrast(colour[text], colour[ground]) >= 4.5, (text, ground)
    for weight in np.linspace(0, 1, 64):  # what a word is lit with
        lit = weight * colour["glow"] + (1 - weight) * colour["page"]
        assert contrast(colour["ink"], lit) >= 4.5, weight
    assert contrast(colour["accent"], colour["page"]) >= 4.5
    for sign in ("field", "warn", "c0", "c1", "c2", "c3", "c4", "c5"):
        assert contrast(colour[sign], colour["page"]) >= 3, sign


# --- the page in a browser ---


class Browser:
    """Chromium, by what a reader does and sees."""

    def __init__(self, driver):
        self.driver = driver

    def open(self, path, fragment="", width=1280, height=900):
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.get("about:blank")  # else a new fragment alone does not load the page again
        for kind in ("browser", "performance"):
            self.driver.get_log(kind)
        self.driver.get(path.as_uri() + fragment)

    def js(self, script, *arguments):
        return self.driver.execute_script(f"return {script}", *arguments)

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def one(self, selector):
        return self.driver.find_element("css selector", selector)

    def texts(self, selector):
        return self.js("[...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector)

    def press(self, *keys):
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def hover(self, element):
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).move_to_element(element).perform()

    def choose(self, selector, text):
        from selenium.webdriver.support.select import Select

        Select(self.one(selector)).select_by_visible_text(text)

    def listed(self):
        """Numbers of the sentences in the list."""
        return [int(number) for number in self.texts("#list .index")]

    def words(self, row):
        """The elements of a row of words: 0 is the source, then the systems."""
        return self.all("#detail .words")[row].find_elements("css selector", ".word")

    def lights(self, row):
        """Return how much each word of a row is lit, 0 to 1, as it is painted."""
        script = "[...document.querySelectorAll('#detail .words')[arguments[0]].querySelectorAll('.word')]"
        colours = self.js(f"{script}.map(e => getComputedStyle(e).backgroundColor)", row)
        numbers = [re.findall(r"[\d.]+", colour) for colour in colours]
        return [float(found[3]) if len(found) == 4 else 1.0 for found in numbers]

    def marked(self, side, kind):
        """Return the marked rows or columns of a system's heat map."""
        script = f"[...document.querySelectorAll('.heat')[arguments[0]].querySelectorAll('.{kind}')]"
        name = "target" if kind == "row" else "source"
        return {int(one) for one in self.js(f"{script}.map(e => e.dataset.{name})", side)}

    def wait_for(self, title):
        from selenium.webdriver.support.wait import WebDriverWait

        WebDriverWait(self.driver, 10).until(lambda _: self.one("h3").text == title)

    def complaints(self):
        return [one for one in self.driver.get_log("browser") if one["level"] == "SEVERE"]

    def requests(self):
        events = [json.loads(one["message"])["message"] for one in self.driver.get_log("performance")]
        sent = [one["params"]["request"]["url"] for one in events if one["method"] == "Network.requestWillBeSent"]
        return [url for url in sent if not url.startswith("data:")]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    chromium, chromedriver = which("chromium"), which("chromedriver")
    if not chromium or not chromedriver:
        pytest.skip("chromium and chromedriver are not on the PATH")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    profile = tmp_path_factory.mktemp("profile")
    for switch in (
        *("headless", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "disable-quic", "no-first-run"),
        *("disable-background-networking", "disable-component-update", "disable-sync"),
        f"user-data-dir={profile}",
    ):
        options.add_argument(f"--{switch}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(chromedriver))
    yield Browser(driver)
    driver.quit()


LINES = {"dot": [(1.0, 10.0), (2.0, 30.0), (3.0, 35.0)], "bahdanau": [(1.0, 20.0), (3.0, 37.5)]}


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """A page of 257 sentences of one system."""
    inputs = made_up(257, ("bahdanau",))
    inputs["path"] = tmp_path_factory.mktemp("single") / "page.html"
    write_page(title="Evaluation", **inputs)
    return inputs


@pytest.fixture(scope="module")
def double(tmp_path_factory):
    """A page of 31 sentences of three systems. Two systems are seen at once."""
    inputs = made_up(31, ("dot", "bahdanau", "general"))
    inputs["references"][4], inputs["references"][20] = "Der GRÖSSTE Fuchs", "ein größter fuchs"
    inputs["path"] = tmp_path_factory.mktemp("double") / "page.html"
    write_page(
        title="Comparison",
        notes=["few seeds"],
        tables=[Table("Metrics", ["system", "BLEU"], [["dot", "35.00"], ["bahdanau", "37.50"]], "A note.")],
        charts=[Chart("BLEU on validation", "epoch", "BLEU", LINES)],
        **inputs,
    )
    return inputs


def quantised(weights):
    return pytest.approx(list(weights), abs=STEP / 2 + 0.003)  # a colour's alpha has 8 bits


def test_pointing_at_a_target_word_lights_what_it_looked_at(browser, single):
    browser.open(single["path"])
    weights = single["systems"]["bahdanau"][0].weights
    for target in (1, len(weights) - 1):
        browser.hover(browser.words(1)[target])
        assert browser.lights(0) == quantised(weights[target])
        assert set(browser.lights(1)) == {0}
        assert browser.marked(0, "row") == {target} and not browser.marked(0, "column")
    greatest = single["source_words"][0][int(weights[-1].argmax())]
    assert f"{END} ← {greatest} {round(100 * round(weights[-1].max() / STEP) * STEP)}" in browser.one(".readout").text
    browser.hover(browser.one("h1"))
    assert set(browser.lights(0)) == {0} and not browser.marked(0, "row")
    assert browser.complaints() == [] and browser.requests() == [single["path"].as_uri()]


def test_pointing_at_a_source_word_lights_what_looked_at_it_in_both(browser, double):
    browser.open(double["path"])
    browser.hover(browser.words(0)[2])
    for side, name in enumerate(("dot", "bahdanau")):
        assert browser.lights(1 + side) == quantised(double["systems"][name][0].weights[:, 2])
        assert browser.marked(side, "column") == {2} and not browser.marked(side, "row")
    assert set(browser.lights(0)) == {0}


def test_pointing_at_a_cell_lights_both(browser, double):
    browser.open(double["path"])
    weights = [double["systems"][name][0].weights for name in ("dot", "bahdanau")]
    cell = browser.one('.side:nth-child(2) td[data-target="3"][data-source="1"]')
    assert cell.get_attribute("title").endswith(f"{round(100 * round(weights[1][3, 1] / STEP) * STEP)}\u202f%")
    browser.hover(cell)
    assert browser.lights(0) == quantised(weights[1][3])
    assert browser.lights(1) == quantised(weights[0][:, 1])
    assert browser.lights(2) == quantised(weights[1][:, 1])
    assert browser.marked(1, "row") == {3} and browser.marked(1, "column") == {1}
    assert not browser.marked(0, "row") and browser.marked(0, "column") == {1}


def test_cells_are_as_dark_as_their_weight(browser, single):
    browser.open(single["path"])
    colours = browser.js(
        "[...document.querySelectorAll('td[data-target]')].map(e => getComputedStyle(e).backgroundColor)"
    )
    numbers = [re.findall(r"[\d.]+", colour) for colour in colours]
    alphas = [float(found[3]) if len(found) == 4 else 1.0 for found in numbers]
    assert alphas == quantised(single["systems"]["bahdanau"][0].weights.ravel())


def test_the_keyboard_does_all_that_the_pointer_does(browser, double):
    from selenium.webdriver import Keys

    browser.open(double["path"])
    browser.press(Keys.TAB, Keys.ENTER)  # the skip link
    assert browser.js("document.activeElement.id") == "browser"
    seen = []
    for _ in range(5):
        browser.press(Keys.TAB)
        seen.append(browser.js("document.activeElement.id || document.activeElement.dataset.sentence"))
    assert seen == ["search", "sort", "a", "b", "0"]
    browser.press(Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_UP)
    assert browser.one("h3").text == "Sentence 2"
    browser.press(Keys.END)
    assert browser.one("h3").text == "Sentence 31"
    browser.press(Keys.HOME, Keys.ARROW_DOWN, Keys.TAB, Keys.ARROW_RIGHT)
    weights = double["systems"]["dot"][1].weights
    assert browser.lights(1) == quantised(weights[:, 1])
    browser.press(Keys.TAB, Keys.END, Keys.ARROW_LEFT)
    assert browser.lights(0) == quantised(weights[-2])
    assert browser.js("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    browser.press(Keys.ESCAPE)
    assert set(browser.lights(0)) == {0}
    browser.press(Keys.HOME)
    assert browser.lights(0) == quantised(weights[0])


@pytest.mark.parametrize("key", ["\ue007", " "])  # Enter
def test_a_found_sentence_is_chosen_by_enter_and_space(browser, double, key):
    browser.open(double["path"])
    browser.js("document.querySelector(`[data-sentence='6']`).focus()")
    before = browser.js("scrollY")
    browser.press(key)
    assert browser.one("h3").text == "Sentence 7"
    assert browser.js("scrollY") == before and browser.js("document.activeElement.dataset.sentence") == "6"


def test_a_browser_that_refuses_another_address_still_shows_the_sentence(browser, double):
    browser.open(double["path"])
    browser.js("history.replaceState = () => { throw new DOMException('too many calls', 'SecurityError'); }")
    browser.js("document.querySelector(`[data-sentence='0']`).focus()")
    browser.press("\ue015", "\ue015")  # arrow down
    assert browser.one("h3").text == "Sentence 3"
    assert browser.js("document.activeElement.getAttribute('aria-selected')") == "true"


def test_printed_it_has_its_colours_and_no_list(browser, double):
    browser.open(double["path"])
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        for selector in (".heat td", ".word"):
            assert browser.js(f"getComputedStyle(document.querySelector('{selector}')).printColorAdjust") == "exact"
        assert browser.js("getComputedStyle(document.querySelector('.choose')).display") == "none"
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_search_counts_and_finds_in_all_texts(browser, double):
    browser.open(double["path"])
    assert browser.one("#count").text == "31 of 31 sentences"
    for wanted, found in (
        ("größte", [21]),
        ("GRÖS", [5]),
        ("FUCHS", [5, 21]),
        ("n1", [2, *range(11, 21)]),
        (" ".join(double["systems"]["bahdanau"][6].words[:3]).upper().replace("SS", "ß"), [7]),
        (END, []),
    ):
        browser.one("#search").clear()
        browser.one("#search").send_keys(wanted)
        assert browser.listed() == found
        assert browser.one("#count").text == f"{len(found)} of 31 sentences"
    browser.one("#search").clear()
    browser.one("#search").send_keys("x", "\b")
    assert len(browser.listed()) == 31


def test_the_order_is_the_chosen_one(browser, double):
    browser.open(double["path"])
    bleu = {name: [one.bleu for one in shown] for name, shown in double["systems"].items()}
    browser.choose("#sort", "sentence BLEU, high to low")
    assert browser.listed() == [i + 1 for i in sorted(range(31), key=lambda i: -bleu["dot"][i])]
    browser.choose("#a", "general")
    assert browser.listed() == [i + 1 for i in sorted(range(31), key=lambda i: -bleu["general"][i])]
    browser.choose("#sort", "sentence BLEU, low to high")
    assert browser.listed() == [i + 1 for i in sorted(range(31), key=lambda i: bleu["general"][i])]
    browser.choose("#sort", "source length, short to long")
    lengths = [len(double["source_words"][number - 1]) for number in browser.listed()]
    assert lengths == sorted(lengths)
    browser.choose("#sort", "sentence BLEU, A and B furthest apart")
    gaps = [abs(a - b) for a, b in zip(bleu["general"], bleu["bahdanau"], strict=True)]
    assert all(gaps[one - 1] >= gaps[other - 1] for one, other in pairwise(browser.listed()))
    assert len(browser.listed()) == 31


def test_a_long_list_grows_as_it_is_read(browser, single):
    from selenium.webdriver import Keys

    browser.open(single["path"])
    assert browser.one("#count").text == "257 of 257 sentences"
    assert browser.listed() == [*range(1, 101)]
    browser.one("#list > [tabindex='0']").send_keys(Keys.END)
    assert browser.listed() == [*range(1, 258)] and browser.one("h3").text == "Sentence 257"


def test_two_systems_show_the_same_sentence_side_by_side(browser, double):
    browser.open(double["path"])
    browser.all("#list > div")[8].click()
    rows = [[word.text for word in browser.words(row)] for row in range(3)]
    shown = [double["systems"][name][8].words for name in ("dot", "bahdanau")]
    assert rows == [double["source_words"][8], *shown]
    assert browser.one(".reference").text == double["references"][8]
    left, right = (one.rect for one in browser.all(".side"))
    assert left["y"] == right["y"] and left["x"] + left["width"] <= right["x"]
    assert browser.texts("#list > [aria-selected=true] .bleu") == [
        f"{double['systems'][name][8].bleu:.1f}" for name in ("dot", "bahdanau")
    ]


def test_an_address_opens_its_sentence_and_systems(browser, double):
    browser.open(double["path"], "#s=17&a=3&b=1")
    assert browser.one("h3").text == "Sentence 17"
    assert browser.texts(".side .label bdi") == ["general", "dot"]
    assert browser.one("#list > [aria-selected=true]").is_displayed()
    browser.all("#list > div")[20].click()
    address = browser.driver.current_url
    assert address.endswith("#s=21&a=3&b=1")
    browser.open(double["path"], "#" + address.split("#")[1])
    assert browser.one("h3").text == "Sentence 21"
    browser.js("location.hash = 's=4'")
    browser.wait_for("Sentence 4")
    for broken in ("#s=99&a=x", "#s=0", "#s=length", "#%"):
        browser.open(double["path"], broken)
        assert browser.one("h3").text == "Sentence 1" and browser.complaints() == []


def test_charts_have_a_line_for_each_system(browser, double):
    browser.open(double["path"])
    lines = browser.all("#charts figure > svg .line")
    looks = set()
    for line, points in zip(lines, LINES.values(), strict=True):
        drawn = line.find_element("css selector", "polyline").get_attribute("points").split()
        places = np.array([[float(number) for number in one.split(",")] for one in drawn])
        given = np.array(points)
        assert len(line.find_elements("css selector", ".marker")) == len(points)
        for axis in (0, 1):  # a straight line of the numbers, the y axis upside down
            slopes = np.diff(places[:, axis]) / np.diff(given[:, axis])
            assert np.allclose(slopes, slopes[0]) and (slopes[0] > 0) == (axis == 0)
        stroke = browser.js("getComputedStyle(arguments[0].firstChild).stroke", line)
        looks.add((stroke, line.find_element("css selector", "polyline").get_attribute("stroke-dasharray")))
    assert len({colour for colour, _ in looks}) == len({dash for _, dash in looks}) == len(LINES)
    assert browser.texts(".legend li") == list(LINES)
    assert browser.texts("#charts tbody tr") == ["11020", "230", "33537.5"]
    assert {"epoch", "BLEU"} <= set(browser.texts("#charts svg .name"))


def test_nothing_is_wider_than_a_phone(browser, double, tmp_path):
    for path in (double["path"], hostile(tmp_path / "page.html")):
        browser.open(path, width=390, height=844)
        assert browser.js("document.documentElement.scrollWidth") == 390
        assert browser.js("innerWidth") == 390


def test_what_is_empty_is_said(browser, tmp_path):
    nothing = Shown([], np.zeros((0, 0), np.float32), 0.0)
    end_alone = Shown([END], np.array([[0.25, 0.75]], np.float32), 0.0)
    write_page(
        tmp_path / "page.html",
        title="empty",
        source_words=[[], ["Ja", END]],
        references=["", "Yes"],
        systems={"dot": [nothing, end_alone]},
        charts=[Chart("nothing", "x", "y", {"dot": []}), Chart("point", "x", "y", {"dot": [(1.0, 1.0)]})],
    )
    browser.open(tmp_path / "page.html")
    assert browser.texts(".words") == ["(empty) ", "(empty) "] and browser.texts(".reference") == ["(empty)"]
    assert "no weights" in browser.one(".side").text
    browser.all("#list > div")[1].click()
    browser.hover(browser.words(1)[0])
    assert browser.lights(0) == quantised([0.25, 0.75])
    assert "no points" in browser.one("#charts").text and len(browser.all("#charts figure > svg")) == 1
    write_page(tmp_path / "page.html", title="none", source_words=[], references=[], systems={"dot": []})
    browser.open(tmp_path / "page.html")
    assert browser.one("#count").text == "0 of 0 sentences" and browser.complaints() == []


# --- texts that attack ---


def evil(place: str) -> str:
    return f"{place}: " + " ".join(ATTACKS)


PLACES = ("title", "note", "caption", "head", "row", "cell", "below", "chart", "x axis", "y axis", "line")
SENTENCE = ("system one", "system two", "reference")


def hostile(path, policy=True, extra=""):
    """A page with attacks in every place that a text goes to; `extra` is put in as markup."""
    words = [*ATTACKS, END]
    write_page(
        path,
        title=evil("title"),
        notes=[evil("note")],
        tables=[Table(evil("caption"), [evil("head"), "n"], [[evil("row"), evil("cell")]], evil("below"))],
        charts=[Chart(evil("chart"), evil("x axis"), evil("y axis"), {evil("line"): [(0.0, 1.0)]})],
        source_words=[[f"source: {word}" for word in words]],
        references=[evil("reference")],
        systems={
            evil(f"system {name}"): [Shown([f"{name}: {word}" for word in words], soft(len(words), len(words)), 1.0)]
            for name in ("one", "two")
        },
    )
    text = path.read_text().replace("</body>", f"{extra}</body>")
    if not policy:
        text, count = re.subn('<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
        assert count == 1
    path.write_text(text)
    return path


@pytest.mark.parametrize("policy", [True, False])
def test_attacks_are_shown_and_do_nothing(browser, tmp_path, policy):
    path = hostile(tmp_path / "page.html", policy)
    browser.open(path)
    for word in (browser.words(0)[1], browser.words(1)[0]):  # what is made on pointing, too
        browser.hover(word)
    assert browser.js("window.pwned") is None
    assert browser.js("document.scripts.length") == 2 and browser.js("document.styleSheets.length") == 1
    foreign = "img, iframe, object, embed, a:not(.skip), [onload], [onerror], [onmouseover], [srcdoc]"
    assert browser.all(foreign) == []
    shown = "[...document.body.children].filter(e => e.tagName != 'SCRIPT').map(e => e.textContent)"
    seen = browser.js(f"[document.title, ...{shown}].join()")
    for place in (*PLACES, *SENTENCE):
        assert printable(evil(place)) in seen
    for side in ("source", "one", "two"):
        for attack in ATTACKS:
            assert seen.count(printable(f"{side}: {attack}")) >= 2  # in the sentence and beside the heat map
    assert browser.one("h1").is_displayed() and browser.one("h1").text == printable(evil("title"))
    assert browser.complaints() == [] and browser.requests() == [path.as_uri()]


def test_markup_in_the_page_would_be_noticed_and_the_policy_stops_it(browser, tmp_path):
    attack = "<img src=data: onerror=window.pwned=1><script>window.pwned=2</script>"
    browser.open(hostile(tmp_path / "open.html", policy=False, extra=attack))
    assert browser.js("window.pwned") in (1, 2)
    browser.open(hostile(tmp_path / "closed.html", extra=attack))
    assert browser.js("window.pwned") is None
    assert any("Content Security Policy" in one["message"] for one in browser.complaints())
