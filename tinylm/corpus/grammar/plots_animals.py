"""Plots among animals of the forest and the farm, and some that suit children as well."""

# ruff: noqa: E501  (a row of a table is one line)

from __future__ import annotations

from tinylm.corpus.grammar.lexicon import table
from tinylm.corpus.grammar.plot import Plot

__all__ = ["PLOTS"]

_RACES = table(
    "goal | obstacle | rescue",
    """
    the old oak tree | had fallen into a deep hole | held out a long branch and pulled {friend} out
    the river | was caught in a thorn bush | pulled the thorns away, one by one
    the top of the hill | had tripped over a root and hurt a foot | wrapped a big leaf around the foot and helped {friend} to stand up
    the red barn | had slipped into the mud and was stuck | pushed and pulled until {friend} came free
    the big rock | had rolled down into a ditch | jumped down and helped {friend} to climb up
    the end of the meadow | had run into a fence and sat there with a sore head | put cool water on the sore spot
    the far side of the lake | had stepped on a sharp stone | took the stone away and washed the foot
    the bridge | had a foot stuck between two logs | lifted the heavy log a little, and {friend} was free
    """,
)

_TRICKS = table(
    "alarm | real | saved",
    """
    There is a wolf in the bushes | stepped into a hole and could not get out | pulled {him} out
    There is a snake in the grass | got stuck between two rocks | pushed the rocks apart
    The big tree is falling | was stuck under a fallen branch | lifted the branch
    There is a fox behind the barn | fell into a deep pit | let down a rope
    A storm is coming | got caught in a thick thorn bush | pulled the thorns away
    I see a big bear | fell into an old well without water | let down a long rope
    The bees are angry | got {his} foot stuck under a heavy log | lifted the log
    """,
)

_FRUITS = table(
    "fruit | fruits",
    """
    apple | apples
    pear | pears
    plum | plums
    peach | peaches
    cherry | cherries
    orange | oranges
    fig | figs
    banana | bananas
    mango | mangoes
    """,
)

_BIRDS = table(
    "kind | look | nestplace",
    """
    bird | [little/blue/brown] | in a tall tree
    robin | [little/young/small] | in an apple tree
    sparrow | [little/brown/tiny] | under the roof of a barn
    owl | [little/gray/young] | in a hollow tree
    eagle | [young/little/brown] | on a high rock
    swallow | [little/young/small] | under the roof of an old house
    blue jay | [little/young/small] | in a pine tree
    crow | [little/black/young] | in an old oak tree
    dove | [little/white/young] | on top of a tower
    parrot | [little/green/young] | in a palm tree
    """,
)

_STORMS = table(
    "storm | damage",
    """
    The wind howled and the rain fell | a big branch had broken the roof of {his} home
    Thunder rolled and the wind blew | a tree had fallen on {his} home
    Snow fell and fell | the snow had covered the door of {his} home
    The rain came down like a river | the mud had filled {his} home
    The wind shook all the trees | {his} bed and {his} food had been blown away
    """,
)

_GUIDES = table(
    "guide | gsay | path",
    """
    wise old owl | Hoo, hoo | Follow the river, and it will take you home
    old turtle | Hello, hello | Go where the sun goes down, and you will see your home
    friendly deer | Good evening | Walk along the row of white stones
    gray goose | Honk, honk | Keep the big hill on your left side
    little firefly | Bzz, bzz | Follow my light
    kind old toad | Ribbit | Go straight to the tall pine tree, then turn right
    brown horse | Neigh | Climb on my back, and I will carry you
    sheep dog | Woof, woof | Come with me. I know every path here
    """,
)
_LURES = (
    "a blue butterfly",
    "a white butterfly",
    "a green dragonfly",
    "a funny beetle",
    "a little red bird",
    "a bright rainbow",
    "a bouncing frog",
    "a leaf that danced in the wind",
    "a golden bee",
    "a tiny bird with a sweet song",
)

_SWEETS = table(
    "sweets | allowed",
    """
    cookies | two
    candies | three
    cupcakes | one
    pancakes | two
    donuts | one
    plums | four
    berries | a handful of
    muffins | one
    cherries | ten
    honey cakes | two
    pieces of chocolate | two
    jam tarts | two
    grapes | ten
    nuts | five
    """,
)


# Pairs whose sizes and habits suit the plot.
_RUNNERS = table(
    "kind | look | kind2 | look2",
    """
    rabbit | [white/brown/young] | hedgehog | [brown/small/round]
    hare | [brown/young/long-legged] | turtle | [green/old/slow]
    fox | [red/young/orange] | badger | [gray/young/round]
    deer | [brown/young/spotted] | goat | [white/young/brown]
    pony | [brown/white/young] | calf | [spotted/young/brown]
    puppy | [brown/spotted/fluffy] | lamb | [white/woolly/small]
    kitten | [gray/white/orange] | duck | [white/yellow/young]
    goat | [white/brown/young] | pig | [pink/round/spotted]
    squirrel | [red/gray/quick] | mouse | [gray/tiny/brown]
    lion | [golden/young/strong] | zebra | [striped/young/proud]
    tiger | [striped/young/orange] | panda | [round/fluffy/young]
    horse | [brown/black/white] | donkey | [gray/brown/small]
    """,
)
_CLIMBERS = table(
    "kind | look | kind2",
    """
    mouse | [little/gray/tiny] | rabbit
    hamster | [little/golden/round] | duck
    rabbit | [little/white/brown] | fox
    hedgehog | [little/brown/round] | goat
    frog | [little/green/spotted] | turtle
    kitten | [little/gray/orange] | puppy
    lamb | [little/white/woolly] | calf
    chick | [little/yellow/fluffy] | goose
    mole | [little/black/gray] | badger
    duck | [little/white/yellow] | pig
    fox | [little/red/young] | deer
    puppy | [little/brown/spotted] | donkey
    """,
)
_DRY_FEET = table(
    "kind2 | look2",
    """
    mouse | [little/gray/tiny]
    hedgehog | [little/brown/round]
    chipmunk | [little/brown/striped]
    hamster | [little/golden/round]
    mole | [little/black/gray]
    squirrel | [little/red/gray]
    kitten | [little/gray/white]
    bunny | [little/white/brown]
    ladybug | [little/red/tiny]
    cricket | [little/green/tiny]
    """,
)

PLOTS = (
    Plot(
        "race",
        "animal",
        {"pair": _RUNNERS, "race": _RACES},
        """
        - <intro> {He} was very fast. [Nobody could run like {him}./{He} liked to run more than anything.]
        - <fineday>, the animals had a race to {goal}.[ <scene>/] {friend} the {kind2} wanted to race too. "I will win!" said {hero}. "[I will do my best/We will see]," said {friend}.
        - "One, two, three, go!" They ran and ran. {hero} was [first/in front]. {He} could already see {goal}.

        - Then {he} heard a cry. {hero} looked back. {friend} {obstacle}. "Help!" cried {friend}.
        - {hero} [looked at {goal}/thought for a moment]. [It was so close./{He} wanted to win so much.] But {his} friend needed {him}.
        - So {hero} turned around and ran back. {He} {rescue}. "<thanks>," said {friend}. "[But now you can't win/But now you lost the race]." "[You are more important than a race/A friend is more important than winning]," said {hero}.

        - They [walked/went] to {goal} together, side by side. They came in last. But all the animals [clapped and cheered/cheered for them].
        - "The real winner is {hero}," said the [old owl/old bear/oldest goat]. And {hero} got a crown of [flowers/green leaves].
        - <close_friends>
        """,
    ),
    Plot(
        "false alarm",
        "animal",
        {"tricks": _TRICKS},
        """
        - <open> {He} also loved to play tricks.
        - <day>, {hero} [shouted/cried], "Help, help! {alarm}!" [All the animals/{friend} the {kind2} and all the others] came running. But {hero} only laughed. "[It was a joke/I tricked you]!" {he} said.
        - The next day, {he} did it again. "Help, help! {alarm}!" The animals came running. {hero} laughed and laughed. "[That is not funny/That was not nice]," said {friend} the {kind2}.

        - Then, one [evening/afternoon], {hero} {real}. "Help, help!" {he} cried. {friend} heard {him}. "[That is only another joke/It is just a trick again]," said {friend}. Nobody came.
        - {hero} [cried and cried/called again and again]. It got dark and cold. {He} was [so /very /]scared. "[Why did I play those tricks?/Please, somebody help me!]" {he} cried.
        - {friend} could not sleep. "What if it is true this time?" {he2} thought. {He2} got up and went to look. There was {hero}!

        - Quickly, {friend} {saved}. "[Thank you, thank you/Oh, thank you]!" said {hero}. "I am sorry. I will never [shout for help as a joke/trick you] again."
        - And {he} kept {his} word. {hero} had learned that [nobody believes those who always play tricks/you must tell the truth if you want others to trust you].
        """,
    ),
    Plot(
        "high fruit",
        "animal",
        {"pair": _CLIMBERS, "fruits": _FRUITS},
        """
        - <open>
        - <fineday>, {hero} saw a tall tree with one big ripe {fruit} at the very top. [It looked so sweet./{He} was very hungry.] {hero} jumped and jumped, but the {fruit} was too high.
        - {friend} the {kind2} came along. "I want that {fruit} too," said {friend}. {He2} jumped and jumped, but {he2} could not reach it either.
        - "It is mine! I saw it first," said {hero}. "No, it is mine!" said {friend}. They [were angry/got angry and looked away].

        - A little [mouse/bird/snail] [watched/had watched] them. "[Why do you fight/Why don't you help each other]?" it asked. "Alone, you are both too small. [Together, you are tall/Together, you can reach it]."
        - {hero} looked at {friend}. {friend} looked at {hero}. Then they [smiled/laughed]. {hero} climbed on {friend}'s back. {He} [stood up/stretched] as tall as {he} could. And {he} got the {fruit}!

        - "Hooray!" they cried. They cut the {fruit} into three parts. One part was for {hero}, one was for {friend}, and one was for the little one who had the good idea.
        - The {fruit} was [so sweet/sweet and juicy]. {hero} and {friend} learned that [together we can reach more/it is better to work together than to fight].
        """,
    ),
    Plot(
        "first flight",
        "animal",
        {"birds": _BIRDS, "swimmer": _DRY_FEET},
        """
        - Once there was {a look} {kind} named {hero}. {He} lived in a nest {nestplace} with {his} mom [and dad/and two sisters/and three brothers].
        | This is the story of {hero}, {a look} {kind}. {He} lived with {his} family in a nest {nestplace}.
        - All the other young birds could fly. But {hero} was [afraid/scared]. ["It is so high," {he} said./"What if I fall?" {he} asked./"What if I fall?" {he} thought.]
        - "Open your wings," said {his} mom. "The wind will [hold/carry] you." {hero} [looked down/opened {his} wings]. [{His} legs shook./{His} heart beat fast.] "No, I can't," {he} said and [sat down again/hid under a leaf].

        - <day>, {hero} was alone in the nest. Then {he} heard a cry. {A look2} {kind2} named {friend} was [in the river/stuck on a rock in the river]. "Help! I can't swim!" cried {friend}.
        - [There was no one else to help./Nobody else was near.] {hero} forgot {his} fear. {He} jumped out of the nest and opened {his} wings. {He} was flying!
        - {hero} flew to the river. {He} picked up a long [branch/vine] and [held it out/dropped one end] to {friend}. {friend} held on to it and [climbed out/came out] of the water.

        - "You saved me!" said {friend}. "And you can fly so well." {hero} [looked at {his} wings/laughed]. "[Yes, I can fly/I did it]!" {he} said.
        - {His} mom [came back and saw it/came flying home]. She was [so /very /]proud. From that day on, {hero} flew every day, higher and higher.
        | {hero} learned that you are braver than you think when a friend needs you.
        """,
    ),
    Plot(
        "storm",
        "animal",
        {"storms": _STORMS},
        """
        - <intro> {He} lived in a [cozy/small/warm] home near the [river/hill/old oak tree].
        - One night, there was a big storm. {storm} all night long. {hero} [hid under {his} blanket/ran away and hid under a rock]. In the morning, {damage}.
        - "My home!" cried {hero}. "[Where shall I live now/What shall I do]?" {He} sat down and cried.

        - Then {friend} the {kind2} [heard {him}/came by]. "<dontworry>," said {friend}. "[You can stay with me/My home is your home]. And tomorrow, we will [fix it/help you]."
        - The next day, {friend} called all the animals. The [bear/horse/goat] brought wood. The [birds/squirrels] brought [leaves/dry grass]. The [beaver/badger] [fixed the walls/dug the ground]. Everyone helped, even the [ants/little mice].
        - They worked all day long. [They sang while they worked./Nobody wanted to rest.]

        - In the evening, {hero} had a new home. It was even [stronger/better/nicer] than the old one. "[Thank you, my friends/Thank you, thank you all]!" {he} said. {He} made [soup/tea and cake/a big dinner] for everyone.
        - {hero} was <glad>. A storm can break a home, but [it can't break a friendship/friends can build it again].
        """,
    ),
    Plot(
        "lost in the forest",
        "any",
        {"guides": _GUIDES, "lure": _LURES},
        """
        - <intro>
        - <day>, {hero} saw {lure}. "[How pretty/Wait for me/I want to see that]!" {he} said. {He} followed it [into the forest/deep into the forest/between the trees]. {He} went on and on and did not look back.
        - Then it was gone. {hero} looked around. All the trees looked the same. "[Where am I/Which way is home]?" {he} [asked/said]. {He} was lost.

        - {He} [walked to the left/went one way], but there were only trees. {He} [walked to the right/went the other way], but there were only [more trees/bushes]. It [got dark/was getting dark]. {hero} sat down [on a log/under a tree] and cried.
        - "{gsay}," said a voice. {hero} looked up. It was {a guide}. "Why are you crying?" asked the {guide}. "[I am lost/I can't find my way home]," said {hero}.
        - "<dontworry>," said the {guide}. "{path}."

        - So {hero} [wiped {his} eyes/stood up]. {He} did what the {guide} said. [Soon/After a while], {he} saw a light. It was {his} home!
        - {His} {elder} [was waiting at the door/ran out to {him}] and <hugged>. "I was so worried," {he3} said.
        - "I [followed something pretty and got lost/went too far]," said {hero}. "I will never [run off/go so far] alone again." And {he} [never forgot/always remembered] the {guide}.
        """,
    ),
    Plot(
        "too many sweets",
        "any",
        {"sweets": _SWEETS},
        """
        - <intro> Most of all, {he} loved {sweets}.
        - <day>, {his} {elder} put a big bowl of {sweets} on the table. "You may eat {allowed}," {he3} said. "The rest is for [later/tomorrow/our guests]." "[Yes/All right], {Elder}," said {hero}.
        - The {sweets} were so good. {hero} looked at the bowl. "[One more will not hurt/Just one more]," {he} thought. So {he} ate one more. And one more. And one more. Soon, the bowl was empty.

        - Then {his} tummy began to hurt. "[Ow/Oh], my tummy!" {he} cried. {He} lay down on the [floor/bed]. {He} did not want to play. {He} did not even want to move.
        - {His} {elder} came in and saw the empty bowl. "Did you eat all the {sweets}?" {he3} asked. {hero} [nodded/looked down]. "Yes. I am sorry," {he} said.
        - {His} {elder} was not angry. {He3} made {him} [some/a cup of] tea and [sat with {him}/put a warm blanket over {him}]. "Too much of a good thing is not good," {he3} said.

        - The next day, {hero} felt better. {He} helped {his} {elder} make new {sweets} for the [guests/neighbors/family]. This time, {he} ate only {allowed}.
        - {hero} learned that [a little is enough/you should stop before it is too much/it is better to listen].
        """,
    ),
)
