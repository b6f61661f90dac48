"""Plots of small wonders and of days when children help, wait, perform or let go."""

# ruff: noqa: E501  (a row of a table is one line)

from __future__ import annotations

from tinylm.corpus.grammar.lexicon import TOYS, table, things
from tinylm.corpus.grammar.plot import Plot

__all__ = ["PLOTS"]

_CAUGHT = table(
    "bug | jar | shine | free",
    """
    firefly | glass jar | glowed like a tiny lamp | flew up and danced with all the other lights
    butterfly | big jar | opened and closed its yellow wings | flew over the fence and into the sky
    ladybug | little box | walked up and down on its tiny legs | spread its wings and flew away
    frog | bucket | jumped and croaked | leaped into the pond with a big splash
    little fish | bowl of water | swam in small circles | darted away between the green plants
    grasshopper | paper box | hopped up and down | made one huge jump into the tall grass
    snail | wooden box | crept along the wall of the box | crawled under a wet leaf
    crab | red bucket | clicked with its claws | ran sideways into the waves
    lizard | shoe box | blinked with its black eyes | slipped under a warm stone
    beetle | tin can | shone green and blue | buzzed and disappeared over the hedge
    bee | cup | buzzed and buzzed | flew straight to the nearest flower
    """,
)

_SHOWS = table(
    "show | stage | stuck | aid",
    """
    sing a song | on the school stage | forgot the words | hummed the song very softly
    play the flute | at the summer party | could not remember the first note | clapped the beat with {his2} hands
    say a poem | in front of the whole class | forgot the second line | whispered the next word
    dance like a swan | in the big hall | did not know which foot came first | moved {his2} hands to show the steps
    do a magic trick | at the birthday party | dropped all the cards | laughed so kindly that everyone laughed too
    play the drum | at the village fair | lost the rhythm | nodded {his2} head to the beat
    tell a story | in the library | forgot how the story began | held up a picture of a fox
    act as the king in a play | in the theater | could not say a single word | pointed at the paper crown
    play the piano | at grandma's party | hit the wrong key | smiled and raised one thumb
    """,
)

_TRASH = table(
    "dump | junk | victim | reward",
    """
    the park | bottles and paper | A duck had a string around its foot | they hung up a new swing there
    the beach | cans and plastic bags | A little turtle was caught in a bag | the turtles came back to lay their eggs
    the river | old shoes and bottles | A fish was stuck in a can | the water was so clear that they could swim
    the forest | candy wrappers and cups | A hedgehog had its nose in a cup | the birds sang louder than ever
    the meadow | broken boxes and paper | A lamb had hurt its foot on a piece of glass | the flowers bloomed all summer
    the pond | plastic bags and sticks | A frog could not get out from under a bag | white lilies grew on the water
    the playground | paper cups and gum | A bird was pecking at a piece of plastic | all the parents brought cake
    the schoolyard | old paper and bottles | A kitten had cut its paw | the neighbors planted little trees
    """,
)

_REPAIRS = table(
    "part | tools | fixing",
    """
    The wheel came off | a small hammer and a nail | put the wheel back and tapped it, tap, tap, tap
    One side broke off | some glue | glued it on and held it tight for a long time
    A long crack ran down the side | a roll of tape and some paint | taped the crack and painted over it
    A screw fell out and it came apart | a tiny screw and a screwdriver | turned the screw round and round until it was tight
    The string snapped | a strong new string | tied the new string with three knots
    The handle bent and came loose | a pair of pliers | bent the handle back and pressed it on
    """,
)
_REPAIRABLE = tuple(
    thing
    for thing in TOYS
    if thing.noun
    in (
        "toy car",
        "toy train",
        "toy truck",
        "toy robot",
        "toy plane",
        "wagon",
        "scooter",
        "toy horse",
        "music box",
        "toy boat",
        "pinwheel",
    )
)

_STANDS = table(
    "goods | price | dream | need | giving",
    """
    lemonade | one coin a cup | a new bike | a family whose roof had a hole | new boards for the roof
    cookies | one coin for two | a big toy castle | the old dog without a home | food and a warm basket
    paper flowers | one coin each | a pair of skates | the library, which had lost its books in a flood | ten new books
    apple juice | two coins a glass | a telescope | a boy whose kite was stolen | a bright new kite
    painted stones | one coin each | a drum | the sick horse at the farm | medicine and sweet hay
    muffins | one coin each | a music box | a girl who had no winter coat | a thick red coat
    bunches of herbs | one coin a bunch | a big book about stars | the birds, who found no food in the snow | three bags of seeds
    bead bracelets | two coins each | a toy train | the old man next door, who had no wood for the winter | a big pile of wood
    """,
)

_TRIPS = table(
    "vehicle | motion | sound",
    """
    train | rolled through the hills | Choo, choo
    bus | drove along the winding road | Honk, honk
    boat | sailed across the bay | Toot, toot
    plane | rose above the clouds | Whoosh
    wagon | rumbled along the sandy road | Clip, clop
    sled | slid over the snow | Jingle, jingle
    car | crossed a long bridge | Beep, beep
    tram | rattled through the town | Ding, ding
    """,
)
_WINDOW_SIGHTS = table(
    "view1 | view2 | view3",
    """
    three brown cows in a field | a boy who flew a kite | a castle on a hill
    a field of yellow sunflowers | a girl on a white pony | a windmill with four arms
    sheep that looked like clouds | an old man with a fishing rod | a waterfall between the rocks
    a red tractor | children who waved from a bridge | a tower with a golden clock
    a deer at the edge of the wood | a woman with a basket of pears | a rainbow over the lake
    a row of tall poplar trees | a farmer with a straw hat | a lighthouse with red stripes
    geese in the sky | a bakery with a big pretzel | a market full of people
    a fox in the grass | two boys in a tree house | a river that shone like silver
    """,
)
_WELCOMES = (
    "They ate warm soup and bread",
    "There was a plum cake on the table",
    "They sat by the fire and drank cocoa",
    "They picked cherries in the garden",
    "They looked at old pictures together",
    "They fed the chickens behind the house",
    "They baked potatoes in the ashes",
)

_BABY_SOOTHERS = table(
    "tried | soothed",
    """
    shook a rattle | made a funny face and stuck out {his} tongue
    sang a loud song | hid behind {his} hands and said, "Peek-a-boo!"
    held up a bottle | danced around the bed with a sock on {his} head
    turned on some music | barked like a little dog
    opened the window | hummed a soft tune and rocked the bed
    brought a teddy bear | blew soap bubbles over the bed
    read a book | let the baby hold {his} finger
    """,
)

_MONSTERS = table(
    "monster | lair | ache | mending | thanks2",
    """
    dragon | a dark cave | had a thorn in its foot | pulled out the thorn with both hands | flew {hero} over the mountains
    giant | an old castle | had a terrible toothache | tied a string around the bad tooth and pulled | carried {hero} home on its shoulder
    sea monster | a deep lake | had a fishing net around its neck | cut the net with a pair of scissors | gave {hero} a ride across the lake
    snow beast | a cave of ice | was freezing because it had no scarf | gave it a long woolen scarf | built {hero} the biggest snowman ever
    troll | a hole under the bridge | could not sleep because it was afraid of the dark | lent it a small lamp | held up the bridge in the next storm
    big wolf | a thick forest | had lost its cubs | found the cubs behind a waterfall | guarded the sheep from that day on
    ogre | a lonely tower | had broken its glasses | fixed the glasses with a bit of wire | read {hero} stories every evening
    griffin | a cave in a high cliff | had a broken wing | wrapped the wing in soft cloth | brought {hero} a golden feather
    """,
)

_BALLOONS = things(
    """
    balloon: red blue green yellow pink purple orange white golden silver
    """
)
_COMFORTS = table(
    "dreamt | evening",
    """
    It wants to see the moon | In the evening, {hero} looked at the moon. "Good night, balloon," {he} whispered
    It is going to visit the clouds | In the evening, one cloud was round and pink. "There it is!" said {hero}
    Maybe a lonely child will find it | The next week, a letter came. "Thank you for the balloon," wrote a boy from far away
    The birds will play with it now | The next morning, a bird sang at the window. "Did you see my balloon?" {hero} asked, and the bird chirped
    It flies because it is free | That night, {hero} dreamed that {he} flew beside it, high above the roofs
    Some things are most beautiful when they fly | {hero} drew a picture of it and hung the picture over {his} bed
    """,
)

PLOTS = (
    Plot(
        "catch and free",
        "child",
        {"caught": _CAUGHT},
        """
        - <intro>
        - [One warm evening/<fineday>], {he} caught a {bug}. {He} put it in a {jar} and ran to show {his} {elder}. "[Look what I have/See what I caught]!" {he} said. "It is mine now!"
        - The {bug} {shine}. {hero} [could not stop looking/watched it until bedtime/thought it was wonderful].

        - But the next [day/morning], the {bug} did not move much. It sat in the corner and looked [sad/tired/weak]. "[What is wrong with it/Is it sick]?" asked {hero}.
        - "[How would you feel in a {jar}/Would you like to live in a {jar}]?" {his} {elder} asked [gently/softly]. "It [misses its home/needs the open air/wants to be with its family]."
        - {hero} was quiet. {He} [liked/loved] the {bug} so much. But {he} did not want it to be sad.

        - {He} carried the {jar} outside and set it down[ very carefully/]. "You can go home now," {he} [whispered/said]. For a moment, the {bug} did not move. Then it {free}.
        - {hero} [waved/smiled]. [It hurt a little, but it felt right./{He} felt light and happy.]
        - "[That was kind/You did the right thing]," said {his} {elder}. {hero} learned that [love sometimes means to let go/wild things want to be free].
        """,
    ),
    Plot(
        "on the stage",
        "child",
        {"shows": _SHOWS},
        """
        - <intro> Soon, {he} was going to {show} {stage}. {He} practiced every day[, in the bath and on the stairs/, in the morning and in the evening/].
        - When the day came, {his} [hands were cold/tummy felt funny/knees trembled]. "What if [I do something wrong/everybody laughs at me]?" {he} asked {his} {rel} {friend}. "I will be right there," said {friend}.

        - Then {hero} stepped forward. Everyone [looked at {him}/was silent]. {He} began, but then {he} {stuck}. {His} face [turned red/got hot]. {He} wanted to run away.
        - Then {he} saw {friend} in the first row. {friend} {aid}. {hero} took a deep breath and [tried again/started again].

        - And this time, it worked! {He} went on to the very end. Everybody clapped and [cheered./shouted, "Bravo!"]
        - "[You saved me/Without you, I would have run away]," {hero} said to {friend}. "[You did it yourself/I only helped a tiny bit]," said {friend} and grinned.
        - {hero} learned that [everyone gets stuck sometimes/it is all right to make mistakes], and that a good friend helps you [to go on/to start again].
        """,
    ),
    Plot(
        "cleaning up",
        "child",
        {"trash": _TRASH},
        """
        - <intro> {His} favorite place was {dump}.
        - But [one day/one Monday/one spring day], there was trash everywhere. {hero} saw {junk} on the ground. {victim}. {hero} helped it gently. "[This is not right/Somebody must clean this up]," {he} said.

        - {He} [fetched/got] a big bag and started to collect the trash. It was a lot of work. Some children [laughed/watched]. ["Why do you do that?" they asked./"That is not your trash," they said.]
        - "[The animals live here/We all play here]," said {hero}. "[I want it to be beautiful again/I do not want them to get hurt]."
        - A {kind2} named {friend} put down {his2} toys. "I will help you," {he2} said. Then another child came, and another. Soon, everybody was [picking up/gathering] trash. They even made a [race/game] out of it.

        - In the evening, twenty bags were full, and {dump} was clean. {hero} was tired and dirty, but {he} [beamed/was proud].
        - After that, {reward}. And {hero} put up a sign: "[Please keep our place clean/This place belongs to everyone]!"
        - {hero} learned that [one child can start something big/if one begins, others will follow].
        """,
    ),
    Plot(
        "the workshop",
        "child",
        {"toy": _REPAIRABLE, "repair": _REPAIRS},
        """
        - <intro> {He} had {a toy} and played with it from morning to night.
        - <day>, {he} dropped it. {part}. {hero} [stared at it/gasped]. "My {toyn} is broken!" {he} [sobbed/cried]. "[Now I have to throw it away/It will never work again]."

        - "[Not so fast/Wait a moment]," said {his} {elder}. "[Many things can be mended/Let us see what we can do]." {He3} took {hero} to the [shed/cellar/little workshop]. It smelled of wood and paint. There were saws, brushes and boxes full of nails.
        - {His} {elder} looked at the {toyn} [from all sides/through {his3} glasses]. Then {he3} got {tools}. "[You are going to do it/You do it], and I will help you," {he3} said.
        - {hero} had never done that before. {He} [was very careful/bit {his} lip and worked slowly]. {He} {fixing}.

        - "Done!" {he} said at last. The {toyn} was [as good as new/a little crooked, but it worked again/even stronger than before].
        - "[I fixed it myself/I can fix things now]!" {hero} [told everyone/shouted]. {He} loved the {toyn} even more than before.
        - When {friend} broke a toy the next week, {hero} knew what to do. "[Don't throw it away/Come with me]," {he} said. "We will mend it."
        """,
    ),
    Plot(
        "little shop",
        "child",
        {"stand": _STANDS},
        """
        - <intro> {He} dreamed of {dream}, but it cost a lot of money.
        - "[Then earn some/You could sell something]," said {his} {elder}. So {hero} and {his} {rel} {friend} made {goods} and put a table in front of the house. They painted a sign: "{Goods}, {price}!"
        - At first, nobody came. [Then it started to rain a little./The wind blew the sign over.] "[Let's give up/This is boring]," said {friend}. "[Just a bit longer/Let's wait]," said {hero}.

        - Then a woman stopped. Then two men. Soon there was a long line! They sold and sold until nothing was left. {hero} counted the coins. "[It is enough/We have enough]! Now I can buy {dream}!"
        - But on the way to the shop, {hero} heard about {need}. {He} stood still. {He} looked at the coins in {his} hand. [It was a hard choice./{He} thought for a long time.]

        - Then {he} turned around. With the money, {he} bought {giving}. [Nobody had asked {him} to do it./{friend} nodded. "I would do the same," {he2} said.]
        - That night, {hero} had no coins left, but {he} felt [rich/warm all over].
        - "[You can always make more {goods}/I have never been so proud of you]," said {his} {elder}. And the next Saturday, the little shop was open again.
        """,
    ),
    Plot(
        "the trip",
        "child",
        {"trips": _TRIPS, "views": _WINDOW_SIGHTS, "welcome": _WELCOMES},
        """
        - <intro>
        - <day>, {he} went on a trip with {his} {elder}. They wanted to visit {his} [aunt/uncle/cousins] far away. {hero} had never traveled by {vehicle} before. {He} [packed {his} bag/hardly slept] the night before.
        - "{sound}!" The {vehicle} {motion}. {hero} pressed {his} nose against the window.

        - First, {he} saw {view1}. "Look, {Elder}!" {he} said. Then {he} saw {view2}. {hero} [waved/laughed]. And then {he} saw {view3}. "[I want to remember everything/The world is so big]!" {he} said.
        - After a while, {he} got [hungry/tired]. They [shared a sandwich/ate apples and cheese/told each other riddles]. "Are we there yet?" asked {hero}. "[Almost/Not yet/Soon]," said {his} {elder}. {hero} [counted the trees/closed {his} eyes and fell asleep].

        - At last, they arrived. {His} family stood there and [waved/waited with open arms]. {welcome}.
        - {hero} told them about {view1}, about {view2} and about {view3}. That night, in a strange bed, {he} [smiled in the dark/still heard the sound of the {vehicle}]. Then {he} fell asleep.
        """,
    ),
    Plot(
        "new baby",
        "child",
        {"soothe": _BABY_SOOTHERS},
        """
        - <intro>
        - <day>, {his} mom and dad came home with a new baby. The baby was tiny and pink. Everybody looked at the baby. Everybody brought presents for the baby. Nobody [looked at/played with] {hero}.
        - "[The baby only sleeps and cries/I was here first]," {hero} [grumbled/said]. {He} went to {his} room and [slammed/closed] the door. [{He} felt alone./Maybe they did not love {him} anymore.]

        - In the evening, the baby cried and cried. {His} dad {tried}, but the baby kept crying. {His} mom carried the baby up and down, but the baby cried even louder.
        - {hero} came out of {his} room and [looked into the little bed/bent over the baby]. Then {he} {soothed}.
        - The baby stopped crying. It looked at {hero} with big eyes. And then it [laughed/smiled for the very first time]!

        - "[Nobody else can do that!/How did you do that?]" said {his} mom[ and put an arm around {him}/]. "The baby likes you best of all."
        - {hero} [felt {his} heart grow/sat up very straight]. "I will teach you everything," {he} told the baby. "[How to run, how to paint and how to climb trees/How to whistle and how to eat spaghetti]."
        - From that day on, {hero} was the [best/proudest] big {sibling} in the world.
        """,
    ),
    Plot(
        "gentle monster",
        "child",
        {"monsters": _MONSTERS},
        """
        - Once upon a time, there was a village near {lair}. {A monster} lived there. Every night, the people heard it [roar/howl/groan], and they locked their doors.
        | Long ago, {a monster} lived in {lair}. It roared so loudly that nobody [dared to go there/slept well at night].
        - {A look} {kind} named {hero} listened. "[That does not sound angry/It sounds more like crying]," {he} said. "[Stay away from it/It will eat you]!" said {his} {rel} {friend}. But {hero} [wanted to know the truth/took a lamp and went].

        - {His} heart [pounded/beat like a drum]. There it was, as big as a house! "Who is there?" growled the {monster}. "I am {hero}," said {hero} in a shaky voice. "[Why do you cry every night/Are you hurt]?"
        - The {monster} [was surprised/lowered its huge head]. "[Nobody ever asked me that/Everyone else runs away]," it said. It {ache}.
        - "[Hold still/Let me help you]," said {hero}. {He} {mending}. The {monster} [sighed/blinked]. "[That is so much better/The pain is gone]!" it said, and two big tears rolled down its face.

        - When {hero} came back, the people [could not believe it/rubbed their eyes]. The {monster} walked behind {him} and [waved/smiled shyly].
        - After that, nobody was afraid anymore. The {monster} {thanks2}. And {hero} had learned that [someone who roars may only need help/you should ask before you are afraid].
        """,
    ),
    Plot(
        "goodbye balloon",
        "child",
        {"ball": _BALLOONS, "comfort": _COMFORTS},
        """
        - <intro>
        - At the [fair/market/zoo], {his} {elder} bought {him} {a ball}. {hero} held the string tight. The balloon [bobbed/danced] over {his} head all the way.
        - "[You are my best balloon/I will keep you forever]," {he} told it. {He} showed it to [the dog/the baker/{friend}] and to [the postman/the cat/the neighbors].

        - Then {he} had to sneeze. Achoo! The string slipped out of {his} hand. {hero} [jumped/reached for it], but it was too late. The balloon rose higher and higher, over the roofs and over the trees.
        - "Come back!" {he} [shouted/begged]. But the balloon was only a tiny dot in the sky. {hero} [wept/sobbed/burst into tears].
        - {His} {elder} knelt down and [wiped {his} cheeks/took {him} in {his3} arms]. "{dreamt}," {he3} said. {hero} [sniffed/looked up]. "Really?" {he} asked. "Really," said {his} {elder}.

        - They stood there [hand in hand/for a while] and waved until the dot was gone. [It still hurt a little, but not so much./{hero} even smiled a bit.]
        - {evening}.
        """,
    ),
)
