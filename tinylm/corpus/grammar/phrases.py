"""Wordings that many plots share."""

# ruff: noqa: E501  (a wording is one line)

from __future__ import annotations

from tinylm.corpus.grammar.template import Node, parse

__all__ = ["MACROS"]

_TEXTS = {
    "open": "[Once upon a time, there was/Once upon a time, there was/Once there was/There once was/Long ago, there was]"
    " {a look} {kind} [named/named/called] {hero}. <likes>",
    "meet": "Little {hero} was {a trait} {kind}. <likes>",
    "intro": "[<open>/<open>/<meet>]",
    "likes": "[{He} [loved/liked] to {act}./{He} [loved/liked] to {act} and {act2}./"
    "{He} [loved/liked] to {act} every day./{hero} [loved/liked] to {act}./"
    "What {he} liked best was to {act}.]",
    "day": "[One day/One day/One day/One morning/One afternoon/One <fair> <daytime>/One <fair> <daytime>]",
    "fineday": "[One sunny day/One warm day/One fine morning/One bright morning/One sunny afternoon/On a warm and sunny day"
    "/One beautiful day]",
    "fair": "[sunny/warm/bright/quiet/nice/lovely/fine]",
    "daytime": "[day/morning/afternoon]",
    "scene": "[The sun was shining and the birds were singing./A soft wind blew through the trees./White clouds sailed across the blue sky./The air smelled of [flowers/grass/summer]./Bees hummed in the flowers./The leaves rustled in the wind./The grass was still wet with dew./Everything was [green/quiet/bright] and [fresh/warm/peaceful].]",
    "said_kindly": "[said/said/said with a smile/said softly/said kindly]",
    "glad": "[happy/very happy/so happy/glad/very glad]",
    "sad": "[sad/very sad/so sad/upset]",
    "cheer": "[Hooray/Yay/Look/Wow/I did it]",
    "dontworry": "[Don't worry/Do not worry/Don't be sad/Don't cry]",
    "thanks": "[Thank you/Thank you so much/Thank you very much]",
    "hugged": "[gave {him} a [big/warm] hug/hugged {him}/hugged {him} tight]",
    "longtime": "[all day/all afternoon/for a long time/until the sun went down/until it was time to go home]",
    "close": "[It was a [good/great/wonderful/happy] day./{hero} [went to bed/fell asleep] with a [big/happy] smile that "
    "night./{hero} was [very /so /][happy/proud]./{hero} never forgot that day./The end.]",
    "close_friends": "[{hero} and {friend} were [best/good] friends [from that day on/after that/forever]./"
    "{hero} and {friend} [smiled at each other/were very happy]./{hero} and {friend} hugged[ each other/]./"
    "From then on, they played together [every day/every week/all the time]./They were [both /][very /so /]happy./The end.]",
}

MACROS: dict[str, tuple[Node, ...]] = {name: parse(text) for name, text in _TEXTS.items()}
