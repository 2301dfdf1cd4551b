"""Sentences as a list."""

from xml.etree import ElementTree

from helpers.core import sentence_lists


def test_names_of_groups_are_no_markup():
    about, within = "Of 2: 1 (<img src=//x> - [y](z)\n# w)", "Within +-0.02"
    listed = sentence_lists.in_html(["a: 0.8.", sentence_lists.MORE + about, "", within])
    page = ElementTree.fromstring(listed)
    assert {element.tag for element in page.iter()} == {"ul", "li"}
    first, second = page
    assert first.text == "a: 0.8." and second.text == within and len(second) == 0
    assert [item.text for item in first[0]] == [about]


def test_a_sentence_that_goes_on_stands_under_the_one_before_and_alone_for_itself():
    page = ElementTree.fromstring(sentence_lists.in_html([sentence_lists.MORE + "a", "b"]))
    assert [item.text for item in page] == ["a", "b"] and all(len(item) == 0 for item in page)
    assert sentence_lists.in_html(["", ""]) == "<ul>\n</ul>"
