"""Plots at home: children and the grown-ups around them."""

# ruff: noqa: E501  (a row of a table is one line)

from __future__ import annotations

from tinylm.corpus.grammar.lexicon import GOODS, TOYS, table, things
from tinylm.corpus.grammar.plot import Plot

__all__ = ["PLOTS"]

_HIDING = table(
    "room | spot | look1 | look2",
    """
    in the yard | under a bush | under the bed | behind the door
    in the kitchen | under the table | in the toy box | under the pillow
    in the living room | behind the couch | in the closet | on the shelf
    in the car | under the seat | under the rug | behind the curtain
    on the porch | behind the chair | in the kitchen | under the couch
    in the bathroom | next to the tub | behind the door | in the closet
    in the garden | beside the flowers | in the big drawer | under the bed
    in the garage | behind the bikes | on the bed | under the desk
    in grandma's room | on the soft chair | in the bathroom | under the table
    on the stairs | on the last step | in the toy box | behind the couch
    in the tent | under the blanket | on the shelf | in the hall
    by the window | behind the curtain | under the bed | in the school bag
    """,
)

_FRAGILE = things(
    """
    vase: blue white tall pretty old
    cup: blue white red pretty old
    plate: blue white big pretty old
    bowl: blue green big old glass
    lamp: tall red yellow old pretty
    teapot: blue white old little
    mug: green yellow big
    flower pot: red brown big
    picture frame: silver golden old
    jar: glass big tall
    mirror: little silver old
    clock: old little golden
    """
)
_ACCIDENTS = table(
    "game | cause | rule",
    """
    played ball in the house | The ball flew across the room and hit | play ball outside
    kicked {his} ball in the hall | The ball bounced off the wall and hit | play ball outside
    ran around the table | {His} foot slipped, and {he} bumped into | walk in the house
    danced in the living room | {His} arm swung around and hit | dance where there was room
    jumped on the couch | {He} lost {his} balance and fell against | sit on the couch and not jump
    spun around and around | {He} got dizzy and fell against | spin around only on the grass
    flew {his} toy plane in the kitchen | The plane flew too far and hit | fly {his} plane outside
    chased the cat around the room | {His} elbow bumped into | be gentle with the cat
    """,
)

_FEARS = table(
    "fear | first | advice | remedy | after",
    """
    the dark | At bedtime, the room was very dark. {hero} pulled the blanket over {his} head. | The dark is only the day with its eyes closed | lit a small lamp that looked like a moon | {He} closed {his} eyes and soon {he} was asleep
    thunder | One night, there was a big storm. The thunder went boom! {hero} hid under the blanket. | Thunder is only the clouds bumping into each other | counted with {him} from one boom to the next | The booms got softer and softer, and {hero} even laughed at them
    the big slide | At the park, {hero} climbed up the big slide. It was very high. {His} knees shook. | You can sit down and go when you are ready | stood at the end of the slide with open arms | {hero} sat down, closed {his} eyes and went whoosh, all the way down
    the water | At the pool, {hero} put one toe in the water. It was cold and deep. {He} ran back to {his} towel. | We can go in together, one small step at a time | held {his} hand while they walked down the steps | {hero} splashed and kicked, and the water felt nice and cool
    the big dog next door | On the way to the shop, the big dog next door barked at {hero}. {He} hid behind a tree. | He barks because he wants to say hello | showed {him} how to hold out {his} hand for the dog | The dog sniffed {his} hand and licked it, and his tail wagged and wagged
    spiders | In the bath, {hero} saw a little spider on the wall. {He} screamed and jumped out. | The spider is more afraid of you than you are of it | put the spider in a cup and showed {him} its tiny legs | They set the spider free in the garden, and {hero} waved goodbye to it
    the doctor | {hero} had to go to the doctor. {He} sat in the waiting room and held on to the chair. | The doctor only wants to help you feel well | told {him} a funny story while they waited | The doctor was kind and gave {him} a shiny star, and it did not hurt at all
    the swing | At the playground, all the swings went up so high. {hero} only stood and watched. | You can start with a very small swing | gave {him} one soft push, and then one more | Soon {he} was swinging up and down and the wind blew in {his} hair
    loud noises | A big truck came down the street. It went honk, honk! {hero} put {his} hands over {his} ears. | Loud things can be friendly too | asked the driver to show {him} the horn | {hero} pushed the horn {himself}. Honk! It was so funny that {he} pushed it again
    the first day of school | {hero} stood at the door of the school. There were so many new faces. {His} tummy felt funny. | Everyone here is new today, just like you | walked with {him} to the teacher, who had a warm smile | {hero} found a seat next to a nice child, and they painted a picture together
    high places | {hero} wanted to see the birds from the top of the hill. But the bridge on the way was very high. | Look at me and not at the ground | walked in front of {him} and sang a little song | Step by step {he} crossed the bridge, and from the hill {he} could see the whole town
    the haircut | {hero} sat down in the big chair. The scissors went snip, snip. {He} wanted to run away. | Hair does not feel anything at all | held up a mirror so that {he} could watch | Snip by snip it was done, and {hero} liked {his} new hair
    """,
)

_SKILLS = table(
    "skill | fail | tip | success",
    """
    ride a bike | {He} fell off on the grass | Look ahead and keep your feet moving | {he} rode all the way down the street
    whistle | Only air came out | Make your lips small and round | a clear little sound came out
    tie {his} shoes | The laces came apart | Make two bunny ears and cross them | the bow stayed tight
    swim | {He} swallowed some water | Kick your legs and stay calm | {he} swam across the pool
    skip stones on the lake | The stone sank with a plop | Use a flat stone and throw it low | the stone skipped three times
    skate | {He} sat down on the ice with a bump | Bend your knees a little | {he} glided over the ice like a bird
    draw a horse | It looked like a potato | Start with a big round shape | there was a fine horse on the paper
    jump rope | The rope got caught on {his} feet | Count to two and jump | {he} jumped ten times in a row
    catch a ball | The ball bounced off {his} hands | Watch the ball all the way | the ball was safe in {his} arms
    write {his} name | The letters fell over each other | Go slowly, one letter at a time | {his} name stood there, big and clear
    do a cartwheel | {He} landed on {his} bottom | Put your hands down one after the other | {his} legs went up and around like a wheel
    play a song on the piano | It sounded like a cat on the keys | Play it very slowly first | the whole song came out right
    fly a kite | The kite fell down in the grass | Run into the wind and let the string out slowly | the kite danced high in the sky
    hop on one foot | {He} fell over to the side | Hold out your arms like wings | {he} hopped across the whole yard
    crack an egg | Bits of shell fell into the bowl | Tap it gently and open it with your thumbs | the egg dropped into the bowl without any shell
    juggle | The balls rolled all over the floor | Start with only two balls | the balls flew up and down without falling
    climb the rope | {He} slid back down | Hold the rope with your feet as well | {he} touched the top with one hand
    snap {his} fingers | There was no sound at all | Press hard and let go fast | there was a loud snap
    make a paper boat | The boat was flat and would not stand up | Fold it slowly and press each fold | a fine white boat stood on the table
    throw a ball into the basket | The ball flew over the fence | Bend your knees and look at the basket | the ball went right in
    read a whole page | The words got mixed up | Put your finger under each word | {he} read the page from the top to the end
    button {his} coat | One side was longer than the other | Start with the button at the bottom | all the buttons were in the right place
    """,
)

_BAKING = table(
    "dish | missing | cook | smell",
    """
    a chocolate cake | sugar | put it in the oven | sweet
    a birthday cake | eggs | put it in the oven | sweet
    an apple pie | butter | put it in the oven | warm and sweet
    some bread | flour | put it in the oven | warm
    some pancakes | milk | poured it into a hot pan | so good
    some cookies | butter | put it in the oven | sweet
    some muffins | eggs | put it in the oven | warm and sweet
    a lemon cake | lemons | put it in the oven | fresh and sweet
    a carrot cake | carrots | put it in the oven | sweet
    some pumpkin soup | salt | cooked it in a big pot | wonderful
    a big pizza | cheese | put it in the oven | so good
    some banana bread | sugar | put it in the oven | warm and sweet
    a berry pie | flour | put it in the oven | sweet
    some waffles | milk | poured it into the hot waffle pan | sweet
    """,
)
_NEIGHBORS = table(
    "neighbor | nhe | nhim | nhis",
    """
    Mrs. Brown | she | her | her
    Mr. Brown | he | him | his
    Mrs. Green | she | her | her
    Mr. Hill | he | him | his
    Miss Rose | she | her | her
    Mr. Gray | he | him | his
    Mrs. Lane | she | her | her
    Mr. Bell | he | him | his
    Mrs. Wood | she | her | her
    Mr. Stone | he | him | his
    Mrs. Park | she | her | her
    Mr. Lopez | he | him | his
    """,
)

_NOISES = table(
    "noise | nplace | cause | relief",
    """
    Scratch, scratch | at the door | a little gray kitten that wanted to come in | gave the kitten some milk
    Tap, tap, tap | at the window | a branch of the apple tree that moved in the wind | waved at the old tree
    Drip, drip, drip | in the bathroom | the tap in the bathroom, and one drop fell after another | turned the tap until the drops stopped
    Bump, bump, bump | in the hall | the dog, who was dreaming and hitting the floor with his tail | patted the dog on the head
    Hoo, hoo | outside | an owl in the old tree, with big round eyes | said good night to the owl
    Squeak, squeak | in the kitchen | a tiny mouse with a bit of cheese | let the mouse run back into its hole
    Creak, creak | on the porch | the old swing, which moved in the wind | tied the swing to the wall
    Rattle, rattle | in the kitchen | the lid of a pot in which some soup was getting hot | put the lid on the table
    Meow, meow | under the bed | the cat, who was stuck behind a big box | pulled the box away
    Crunch, crunch | behind the couch | the dog, who was eating a big bone | laughed at the hungry dog
    Flap, flap | at the window | a wet shirt that hung in the wind | took the shirt inside
    Ribbit, ribbit | by the back door | a small green frog on the mat | carried the frog back to the pond
    """,
)


PLOTS = (
    Plot(
        "lost thing",
        "child",
        {"toy": (*TOYS, *GOODS), "hiding": _HIDING},
        """
        - <intro> {He} had {a toy} and took it everywhere.
        | <intro> {His} favorite thing was {a toy}.
        | <intro> {His} [grandma/grandpa/aunt/uncle] had given {him} {a toy}. {hero} loved the {toyn} very much.

        - <day>, {hero} could not find the {toyn}. {He} looked {look1}. It was not there. {He} looked {look2}. It was
          not there either.
        | <day>, the {toyn} was gone. {hero} looked {look1} and {look2}, but {he} could not find it.
        - [{He} was <sad>./{He} felt like crying./{He} started to cry./A tear ran down {his} cheek.]
        - "Where is my {toyn}?" {he} [asked/cried].

        - {His} {elder} [heard {him} and came into the room/saw that {he} was sad].
        - "<dontworry>, {hero}," {he3} <said_kindly>. "Where did you [play with it last/see it last/have it last]?"
        - {hero} [thought hard/thought for a moment/closed {his} eyes and thought]. "I [had it/left it/saw it] {room}!"
          {he} said.
        - {He} ran to look. And there it was! The {toyn} was {spot}.
        | They went to look together. There, {spot}, was the {toyn}!
        | So they looked {room}. {hero} looked {spot}, and there was the {toyn}!

        - Then {hero} [hugged/held] the {toyn}[ tight/ and laughed/ and smiled]. "<thanks>, {Elder}!" {he} said.
        - From that day on, {hero} always put the {toyn} [away/back in its place] [when {he} was done/before bed/at night].
        | {He} was <glad>. After that, {he} always knew where {his} {toyn} was.
        | "Now I will always put it back in its place," {he} said. And {he} did.
        """,
    ),
    Plot(
        "broken thing",
        "child",
        {"fragile": _FRAGILE, "accident": _ACCIDENTS},
        """
        - <intro>
        - <day>, {hero} {game}. "Please [be careful/stop that/do not do that]," {his} {elder} said. But {hero} did not
          [listen/stop].
        - {cause} {his} {elder}'s {fragile}. Crash! The {fragilen} [fell down and broke/broke into many pieces/was broken].

        - Now {hero} was [scared/afraid]. {He} wanted to [hide the pieces/run away/say that the wind did it/say that the cat
          did it]. But {he} knew that [it was wrong/this would be a lie/it was not right].
        - Then {his} {elder} came in. "What happened to my {fragilen}?" {he3} asked.
        - {hero} looked at [the floor/{his} feet]. "I broke it," {he} said. "I am [so /very /]sorry."
        | "It was me," said {hero} in a small voice. "I broke it. I am [so /very /]sorry."

        - {His} {elder} was [quiet/sad] for a moment. Then {he3} <hugged>. "Thank you for telling the truth," {he3} said.
          "[That was brave/I am proud of you/You are more important than {a fragilen}]."
        - Together, they [cleaned up/picked up the pieces/swept the floor]. [Then they fixed the {fragilen} with glue./The
          next day, they [bought/made] a new {fragilen}.]
        - {hero} felt much better. From then on, {he} always tried to {rule}.
        | {hero} learned that it is [best/always better] to tell the truth. And {he} remembered to {rule}.
        """,
    ),
    Plot(
        "fear",
        "child",
        {"fears": _FEARS},
        """
        - <intro> But {hero} was [afraid/scared] of {fear}.
        | <intro> There was only one thing that {hero} did not like. {He} was [afraid/scared] of {fear}.

        - {first}
        - "I am [scared/afraid]," {he} [said/whispered/cried].
        - {His} {elder} [came to {him}/sat down next to {him}/took {his} hand]. "{advice}," {he3} <said_kindly>.
        - Then {he3} {remedy}.

        - So {hero} took a deep breath. [{He} felt a little better./{He} wanted to be brave./"I can do it," {he} said.]
        - {after}.
        - "[I did it/I was brave/I am not scared anymore]!" {he} [told {his} {elder}/said] [later/the next day].
        - {His} {elder} was [very /so /]proud of {him}. {hero} was not [afraid/scared] of {fear} anymore.
        | "I knew you could do it," said {his} {elder}. From that day on, {hero} was not [afraid/scared] of {fear}.
        | {hero} learned that being brave means to try even when you are scared.
        """,
    ),
    Plot(
        "skill",
        "child",
        {"skills": _SKILLS},
        """
        - <intro> {He} wanted to learn to {skill}.
        | <intro> [All {his} friends/{His} {rel} {friend}] could {skill}, but {hero} could not. {He} wanted to learn it
          too.

        - <day>, {he} tried for the first time. {fail}.
        - {He} tried again. {fail} again.
        | {He} tried once more. It did not work.
        - "[I can't do it/It is too hard/I will never learn it]!" {he} [cried/said]. {He} was <sad>.
        - {His} {elder} [saw it/came to {him}] and smiled. "Everything is hard [at first/before it is easy]," {he3} said.
          "{tip}."

        - So {hero} tried [again and again/every day/a little every day]. {He} did not give up.
        - Then, [one day/one morning/after a week], it happened: {success}!
        - "[Look/Look at me/See], {Elder}! I can do it!" {he} [shouted/cried/called].
        - {His} {elder} [clapped {his3} hands/clapped and cheered/gave {him} a big hug]. "[I knew you could/You did not give
          up/Well done]!" {he3} said.
        - {hero} was <glad> and [very /]proud. {He} had learned to {skill}.
        | {hero} learned that you must try and try again. Now {he} could {skill}.
        """,
    ),
    Plot(
        "baking",
        "child",
        {"baking": _BAKING, "neighbors": _NEIGHBORS},
        """
        - <intro>
        - <day>, {hero} and {his} {elder} wanted to make {dish}. They [washed their hands and/put on aprons and] got a big
          bowl.
        - But then {his} {elder} looked [on the shelf/in the kitchen]. "Oh no," {he3} said. "We have no {missing}!"

        - At first, {hero} was sad. [Then {he} had an idea./{He} thought hard.] "[I can/Let me] ask {neighbor} next door," {he} said.
        - {He} [ran/walked] to {neighbor}'s house and knocked on the door. "Hello, {neighbor}. May we please have some
          {missing}?" {he} asked.
        - "Of course," said {neighbor}[ with a smile/]. {Nhe} gave {hero} the {missing}. "[What are you making/Are you
          baking today]?" {nhe} asked. "We are making {dish}!" said {hero}.
        - "<thanks>!" {He} [ran/walked] back home[ as fast as {he} could/ with the {missing}/].

        - Then {hero} and {his} {elder} mixed everything in the bowl and {cook}. [Soon/After a while],
          it smelled {smell}.
        - When all was [done/ready], {hero} said, "[Let's give some to {neighbor}/We must share with {neighbor}]!"
        - So they took some to {neighbor}. {Nhe} was [very /so /]happy. They [all /]ate together, and everything [tasted/was]
          [very good/wonderful/yummy/delicious].
        - <close>
        | {hero} learned that [good neighbors help each other/it is nice to share/kindness comes back].
        """,
    ),
    Plot(
        "night noise",
        "child",
        {"noises": _NOISES},
        """
        - <intro>
        - One night, {hero} [was lying in bed/could not sleep/woke up]. The house was [dark and quiet/very quiet]. Then {he}
          heard a [strange /funny /]noise {nplace}. "{noise}!"
        - {hero} [sat up/pulled the blanket up to {his} nose/held {his} breath]. "Is it a monster?" {he} [whispered/thought].
          {He} was [scared/afraid].
        - "{noise}!" There it was again.

        - So {hero} [ran to/woke up] {his} {elder}. "There is a monster {nplace}!" {he} said.
        - "[Let's go and see/Let's look together/We will look together]," said {his} {elder}. {He3} took {his} hand and [got/picked
          up] a [flashlight/small lamp].
        - They went [very slowly/quietly/on their toes]. "{noise}!" {hero} held {his} {elder}'s hand tight.
        - {His} {elder} held up the light. It was not a monster[ at all/]. It was {cause}!

        - How {hero} laughed! [Then {he}/{He}] {relief}.
        - "[That was a funny monster/Now I am not scared anymore/There are no monsters here]," {he} said.
        - {He} went back to bed and [soon fell asleep/slept well/slept until the morning].
        | {hero} learned that [many scary things are not scary in the light/it is good to look before you are scared].
        """,
    ),
)
