"""Plots between children: sharing, quarrels, new friends, things done together."""

# ruff: noqa: E501  (a row of a table is one line)

from __future__ import annotations

from tinylm.corpus.grammar.lexicon import FOODS, GOODS, PLACES, TOYS, table
from tinylm.corpus.grammar.plot import Plot

__all__ = ["PLOTS"]

_BUILDS = table(
    "build | bplace | bstuff | ruin | better",
    """
    sandcastle | on the beach | wet sand | A big wave came and washed the sandcastle away. | far away from the water
    sandcastle | in the sandbox | sand and water | It started to rain, and the sandcastle fell apart. | under the roof of the playhouse
    tower | in {hero}'s room | wooden blocks | The cat jumped on the tower, and all the blocks fell down. | on the table, where the cat could not reach it
    snow fort | in the yard | white snow | A lot of snow fell from the tree and broke the snow fort. | in the middle of the yard
    tent | in the garden | blankets and sticks | The wind blew hard and the tent fell down. | between two strong trees
    bridge | over the little stream | sticks and stones | The water came and took the bridge away. | with bigger stones
    house | in the living room | big boxes | The dog ran through the house, and it fell down. | in the corner of the room
    boat | by the pond | wood and string | The boat filled with water and sank. | with more wood on the bottom
    castle | on the kitchen floor | empty cups | {Elder} opened the door, and the castle fell down. | far away from the door
    hut | in the forest | branches and leaves | The wind blew all the leaves away. | behind a big rock
    dam | in the stream | mud and stones | The water broke the dam. | with long sticks in it
    nest for birds | under the tree | grass and twigs | A strong wind blew the nest away. | with soft wool that held it together
    """,
)

_RAINY = table(
    "plan | indoor | idea",
    """
    have a picnic in the park | spread a blanket on the floor and had a picnic in the living room | have our picnic inside
    fly a kite on the hill | made a tent from two chairs and a big blanket | make a tent
    play ball in the yard | rolled the ball into a row of empty bottles | play a game in the hall
    swim in the lake | put on their raincoats and jumped in all the puddles | jump in the puddles
    go to the playground | built a slide for the toys from books | build a playground for our toys
    look for shells on the beach | cut fish and shells out of paper and hung them up | make our own sea
    ride their bikes | made a race track for toy cars with boxes | make a race for the cars
    go to the zoo | dressed up as lions and monkeys and roared | make our own zoo
    plant flowers | painted big flowers on paper and put them on the wall | paint a garden
    climb trees | put on a puppet show with socks | make a puppet show
    go on a boat on the lake | sat in a big box and rowed with two spoons | make a boat from a box
    run a race | danced to the sound of the rain on the roof | have a dance
    """,
)

_NEW_PLACE = table(
    "where | game",
    """
    at school | play with blocks
    at school | draw pictures
    at school | jump rope
    at school | read a book together
    at the playground | go on the slide
    at the playground | play in the sandbox
    at the playground | go on the swings
    at the park | play tag
    at the park | feed the ducks
    at the park | play ball
    in the house next door | play hide and seek
    in the house next door | ride bikes
    in the house next door | build a tent
    at the pool | splash in the water
    at the library | look at a book about animals
    in the dance class | dance
    in the music class | play the drums
    in the swimming class | swim
    """,
)

_BORROWED = table(
    "harm | mend",
    """
    {He} left the {loann} in the garden, and it rained all night. In the morning, the {loann} was all wet. | dried it in the sun
    {He} dropped the {loann} in the mud. Now it was brown and dirty. | washed it until it was clean
    {hero}'s puppy found the {loann} and chewed on it. There were bite marks on one side. | fixed it as well as {he} could
    {He} spilled juice on the {loann}. Now there was a big red spot on it. | cleaned it with soap and water
    {He} sat on the {loann} by mistake. Crack! It was bent. | bent it back as well as {he} could
    {He} forgot the {loann} on the bench in the park. When {he} came back, it was covered with sand. | brushed off all the sand
    """,
)

_TURNS = table(
    "ride | turn | count",
    """
    swing | swing | ten swings
    red tricycle | ride | one ride around the tree
    slide | slide | one slide
    rocking horse | ride | ten rocks
    little boat | row | one trip across the pond
    trampoline | jump | ten jumps
    big drum | play | one song
    new scooter | ride | one ride to the gate
    telescope | look | one long look
    sled | ride | one ride down the hill
    toy piano | play | one song
    toy tractor | ride | one ride around the yard
    """,
)

_MAPS = table(
    "start | dig | chest",
    """
    in an old book | under the big oak tree | a box full of shiny stones
    in a bottle on the beach | under a flat rock | a little chest with golden coins made of chocolate
    under the carpet | behind the shed | a tin with old photos of {hero}'s {elder} as a child
    in the pocket of an old coat | next to the garden wall | a jar full of marbles
    in the attic | under the rose bush | a box with a silver bell
    behind a picture | at the end of the path | a bag of toy animals made of wood
    in a birthday card | in the sandbox | two books about pirates
    in the old desk | at the foot of the hill | a box with two paper crowns
    """,
)

_SICK = table(
    "gift | effect",
    """
    some warm soup | The soup was hot and good
    a funny picture | The picture showed a cow on a bike
    a bunch of yellow flowers | The flowers smelled like summer
    a little book with stories | The stories were so funny that they both laughed
    a soft teddy bear | The bear was soft and warm
    a jar of honey | The honey made the tea sweet
    a card with many hearts | The card was full of colors
    a box of fresh berries | The berries were sweet
    a warm pair of socks | The socks were soft and blue
    a puppet made from a sock | The puppet told one joke after another
    a big orange balloon | The balloon had a smiling face on it
    """,
)

_HIDING_SPOTS = table(
    "hplace | hspot | hseen",
    """
    in the house | in the closet | behind the curtain
    in the house | in the big laundry basket | under the bed
    in the house | under a pile of blankets | behind the couch
    in the garden | in the little shed | behind the tree
    in the garden | in the big flower bush | behind the wall
    in the barn | in the soft hay | behind the cart
    in the yard | in the empty dog house | behind the bench
    in the park | in the hollow tree | behind the slide
    in the attic | in the old trunk | behind the boxes
    """,
)


_PLAYTHINGS = tuple(thing for thing in TOYS if thing.noun not in ("balloon", "puzzle", "music box", "marble"))
_LOANS = tuple(
    thing
    for thing in (*GOODS, *TOYS)
    if thing.noun
    in (
        "book",
        "hat",
        "scarf",
        "blanket",
        "backpack",
        "umbrella",
        "notebook",
        "kite",
        "toy car",
        "toy plane",
        "toy robot",
        "puppet",
        "toy truck",
        "basket",
        "pillow",
        "toy train",
        "stuffed bunny",
        "jump rope",
    )
)

PLOTS = (
    Plot(
        "sharing a toy",
        "child",
        {"toy": _PLAYTHINGS, "places": PLACES[:1] + PLACES[3:4] + PLACES[9:10] + PLACES[1:2] + PLACES[8:9]},
        """
        - <intro> {He} had {a toy}.
        - <fineday>, {hero} took the {toyn} to {place}.[ <scene>/] {friend} was there too. {friend} [saw/looked at] the {toyn}. "[I like your/What a
          nice/That is a great] {toyn}! Can I [play too/have a turn/try it]?" {he2} asked.
        - "No! [It is mine/This is mine/Go away]!" said {hero}. {He} held the {toyn} tight. {friend} was sad and [sat down on the ground/walked
          away/sat down all alone].

        - So {hero} played [alone/by {himself}]. But [soon/after a while], it was [no fun anymore/not much fun/boring]. {He} looked at {friend}.
          {friend} looked [very /so ][sad/lonely]. {hero} felt [bad/sorry].
        - {He} [went/walked/ran] to {friend}. "I am sorry," {he} said. "[You can play with my {toyn}/Let's play with the {toyn} together/You can
          have a turn]."
        - {friend} smiled. "[Yes, please/Thank you/Oh, thank you]!" {he2} said.

        - They took turns with the {toyn} <longtime>. [They laughed and laughed./They had so much fun./It was much more fun than before.]
        - {hero} learned that [sharing is fun/it is good to share/toys are more fun with a friend/sharing makes everyone happy].
        | <close_friends>
        """,
    ),
    Plot(
        "sharing food",
        "any",
        {"food": FOODS, "food2": FOODS, "places": PLACES[:12]},
        """
        - <intro>
        - <day>, {hero} had {a food}. {He} sat down {at} to eat it.
        | <day>, {hero} went to {place} with {a food}.[ <scene>/] {He} was [hungry/very hungry].
        - Then {friend} [came by/came along/sat down next to {him}]. {friend} looked at the {foodn}. {His2} tummy [rumbled/made a loud noise].

        - "Are you hungry?" asked {hero}. "[Yes/Yes, very]," said {friend}. "[I have nothing to eat/I lost my lunch/I forgot my lunch]."
        - {hero} looked at {his} {foodn}. [It was the only one./It looked so good./{He} wanted to eat it all.] But {he} did not want {friend} to be
          [hungry/sad].
        - So {hero} split the {foodn} and gave {friend} [one half/the bigger half]. "[Here/This is for you]," {he} said. "<thanks>!" said
          {friend}.
        - They sat [in the sun/side by side/under a tree] and ate. The {foodn} [was/tasted] [very good/so good/wonderful].

        - The next day, {friend} [came to {hero}/was there again]. {He2} had {a food2}. "[Yesterday you shared with me/You were so kind to me]," {he2}
          said. "[Today/Now] I want to share with you."
        - {hero} [smiled/laughed]. [Half of something with a friend is better than all of it alone./Food tastes better with a friend./Sharing makes
          good friends.]
        """,
    ),
    Plot(
        "building",
        "child",
        {"builds": _BUILDS},
        """
        - <intro>
        - <day>, {hero} and {his} {rel} {friend} wanted to build a {build} {bplace}. They [got/found/used] {bstuff}. They worked <longtime>.
        - At last, the {build} was done. It was [big and beautiful/very fine/the best {build} ever]. "[Look at it/We did it/It is so nice]!" said {hero}.

        - But then something [bad /]happened. {ruin}
        - {friend} [started to cry/was <sad>/wanted to go home]. "[All our work is gone/Now it is all gone/It is broken]," {he2} said.
        - {hero} was sad too. But then {he} had an idea. "<dontworry>," {he} said. "[Let's build it again/We can build a new one/We can do it again], and this
          time it will be [better/stronger]."

        - So they [started again/built it again]. This time, they built the {build} {better}. {hero} [carried/brought] {bstuff}, and {friend} [put
          everything in place/did the rest].
        - The new {build} was [even better/bigger and stronger/much better] than the old one. [They clapped their hands./They danced around it./They were so proud.]
        - {hero} and {friend} learned that [you can always try again/it is good to try again/together they could do anything].
        | <close_friends>
        """,
    ),
    Plot(
        "rainy day",
        "child",
        {"rainy": _RAINY},
        """
        - <intro> [One Saturday/One Sunday/One day], {he} wanted to {plan} with {his} {rel} {friend}.
        | <intro> {hero} and {his} {rel} {friend} had a plan. They wanted to {plan}.
        - [But when {hero} looked out of the window, it was raining./But then dark clouds came and it started to rain./But in the morning, it rained and
          rained.] "Oh no," said {hero}. "[Now we can't go outside/The day is no fun now/What a bad day]."
        - {friend} was sad too. They sat by the window and watched the [rain/drops/gray sky].

        - Then {friend} [jumped up/smiled/had an idea]. "[I know/I have an idea]!" {he2} said. "[Let's/We can] {idea}!"
        - {hero} [liked the idea/clapped {his} hands/smiled]. "Yes, let's do it!" {he} said.
        - They {indoor}. {hero}'s {elder} [helped them/laughed when {he3} saw it/brought them some warm milk and cookies]. It was so much fun that they
          forgot [all about /]the rain.

        - [Later/In the evening], the rain stopped and the sun came out. There was a big rainbow in the sky. "[Look/How pretty]!" said {hero}.
        - "This was [the best/a great] day," said {friend}. {hero} learned that [you can have fun in any weather/a rainy day can be a good day/a
          bad day can turn into a good one].
        """,
    ),
    Plot(
        "new child",
        "child",
        {"newplace": _NEW_PLACE},
        """
        - Nobody knew {friend}, the new {kind2} {where}. {He2} did not know anyone either. {He2} was shy and [stood alone/sat alone] and looked at the ground.
        | There was a new {kind2} {where}. {His2} name was {friend}. {He2} [was very shy/had no friends yet/did not say a word].

        - {A look} {kind} named {hero} saw {him2}. {hero} [was kind/knew how that felt/did not want anyone to be lonely]. {He} [went/walked] up to the new {kind2}.
        - "Hello, I am {hero}," {he} said. "What is your name?"
        - "My name is {friend}," said {friend} in a [small/quiet] voice.
        - "Do you want to {game} with me?" asked {hero}. {friend} [looked up/thought for a moment]. Then {he2} [nodded/smiled a little smile]. "[Yes/Yes, please],"
          {he2} said.

        - So they went to {game}. [At first, {friend} was quiet./At first, {friend} was still shy.] But soon {he2} [laughed and talked/smiled and laughed]. {hero}
          showed {him2} [everything/all the best places/where everything was].
        - [Then other children came and played too./Soon all the children knew {friend}'s name.] {friend} was not [alone/lonely] anymore.
        - At the end of the day, {friend} said, "Thank you, {hero}. [Will you play with me tomorrow/Can we play again tomorrow]?" "Of course!" said {hero}.
          "[We are friends now/You are my friend]."
        """,
    ),
    Plot(
        "borrowed",
        "child",
        {"loan": _LOANS, "borrowed": _BORROWED, "toy": _PLAYTHINGS},
        """
        - <intro>
        - <day>, {his} {rel} {friend} gave {him} {a loan}. "[You can have it/You can keep it] [for a week/until Sunday]," {friend} said. "But please [take good care of it/be
          careful with it]." "I will," said {hero}.
        - But {hero} forgot. {harm}
        - {hero} was [scared/very sad/upset]. "What will {friend} say?" {he} thought. [{He} wanted to hide the {loann}./{He} did not want to tell {him2}.]

        - {He} told {his} {elder} about it. "You must [tell {friend} the truth/say that you are sorry]," said {his} {elder}. "And then you can try to [make it good again/fix it]."
        - So {hero} took the {loann} and {mend}. Then {he} [went/walked] to {friend}'s house.
        - "I am sorry, {friend}," {he} said. "I was not careful with your {loann}. I [tried to fix it/did my best to fix it]. You can have my {toy}, too."

        - Then {friend} looked at the {loann}. [First {he2} was sad. /]But {he2} smiled. "[It is okay/I am not angry/It is all right]," {he2} said. "Thank you for telling
          me the truth. [You can keep your {toyn}/Let's play with your {toyn} together]."
        - {hero} was <glad>. From then on, {he} [always took good care of/was always careful with] the things of {his} friends.
        | {hero} learned to [take care of/be careful with] things that belong to others.
        """,
    ),
    Plot(
        "taking turns",
        "child",
        {"turns": _TURNS},
        """
        - Once, {hero} and {friend} were [good friends/friends]. They [loved/liked] to {act}.
        - <day>, they saw a {ride}. [There was only one./It was big and shiny./It looked like fun.] "[Me first/I want to go first]!" said {hero}. "No, [me first/I saw it
          first]!" said {friend}.
        - They both ran to the {ride}. [They pushed each other and shouted./They both held on to it and shouted./They got very angry.]
        - So [nobody/no one] could {turn}.

        - Then {hero}'s {elder} [came to them/saw it and came over]. "[What is wrong/Why are you shouting]?" {he3} asked. "[We both want to go first/There is only one {ride}]," said
          {friend}.
        - "[I have an idea/I know what to do]," said {hero}'s {elder}. "You can take turns. Each of you gets {count}, and then it is the other one's turn."
        - {hero} looked at {friend}. "You can go first," {he} said. {friend} [was surprised/smiled]. "<thanks>," {he2} said.

        - First, {friend} got {count}. Then {hero} got {count}. They [laughed and cheered/clapped for each other/laughed and laughed]. It was more fun to take turns than to
          fight.
        - <close_friends>
        """,
    ),
    Plot(
        "treasure map",
        "child",
        {"maps": _MAPS},
        """
        - <intro>
        - <day>, {he} found a map {start}. There was a big red X on the map. {hero} was [so /very /]excited. {He} ran to {his} {rel} {friend}.
        - "Look, {friend}! It is a treasure map!" {he} said. "[Let's find the treasure/Let's go and look for it]!" said {friend}.

        - They [took/got] a shovel and followed the map. First they walked ten steps [to the left/past the gate]. Then they turned [right/around] at the [old fence/well/tall bush].
          "[Are we lost/Is it far]?" asked {friend}. "No, [we are close/look at the map]," said {hero}.
        - At last, they came to the [place with the X/right place]. It was {dig}. "Here it is!" said {hero}. They [started to dig/dug and dug]. The ground was hard, and they [got tired/got very dirty].
        - "[Maybe there is nothing/Let's stop]," said {friend}. "[Just a little more/Don't give up]," said {hero}. Then the shovel hit something. Clonk!

        - It was {chest}! They [jumped up and down/danced around/shouted with joy]. "[We found it/We are real pirates]!" they [cried/said].
        - They shared the treasure. {hero} knew that the best part was [to look for it with a friend/the adventure with {friend}].
        | They shared everything, and {hero} drew a new map for {friend}[ to follow/].
        """,
    ),
    Plot(
        "sick friend",
        "any",
        {"sick": _SICK},
        """
        - <intro> {His} best friend was {friend}. They played together every day.
        - But [one day/one morning], {friend} did not come. {hero} waited and waited. Then {he} [went/walked] to {friend}'s [house/home].
        - {friend} was in bed. {His2} nose was red and {his2} eyes were tired. "I am sick," {he2} said. "I can't play [today/with you]."

        - All day, {hero} was sad for {his} friend. {He} [went home and thought/thought about it]. "What can I do to make {friend} [happy/feel better]?" {he} asked {himself}.
        - Then {he} had an idea. {He} got {gift} for {friend}.
        - {He} [ran back/went back] and knocked on the door. "I have something for you," {he} said and [gave it to {friend}/showed it to {friend}].
        - {effect}. {friend} smiled [for the first time that day/a big smile]. "<thanks>, {hero}," {he2} said. "I feel better [now/already]."

        - [A few days later/After three days/Soon], {friend} was well again. {He2} [came/ran] to {hero} and hugged {him}. "[You are a good friend/You are the best friend]," {he2} said.
        - <close_friends>
        """,
    ),
    Plot(
        "hide and seek",
        "child",
        {"hide": _HIDING_SPOTS},
        """
        - <intro>
        - <day>, {hero} played hide and seek with {his} {rel} {friend} {hplace}. {hero} closed {his} eyes and counted to ten. "[Ready or not, here I come/I am coming]!" {he} [called/shouted].
        - {He} looked {hseen}. {friend} was not there. {He} looked left and right. No {friend}!
        | {He} looked {hseen}. [Nobody/No one] was there. {He} looked here and there. {friend} was not there.

        - "[Where are you, {friend}?/You can come out now, {friend}!]" called {hero}. But [no one/nobody] answered. {hero} [was worried/got worried/was a little scared]. What if {friend} was lost?
        - {He} [ran to/called] {his} {elder}. "I can't find {friend}!" {he} said. "[Shh/Wait]," said {his} {elder}. "Listen."
        - They were very quiet. Then they heard a [small/funny/soft] sound. Snore, snore! It came from somewhere near.

        - Then {hero} [walked/went] on {his} toes. {He} looked {hspot}. And there was {friend}! {He2} had hidden so well and waited so long that {he2} had fallen asleep.
        - "[Found you/I found you]!" {hero} [whispered/said]. {friend} opened {his2} eyes. "[Did I win/Is the game over]?" {he2} asked. {hero} laughed. "[Yes, you won/You are the best hider]!" {he} said.
        - <close_friends>
        """,
    ),
)
