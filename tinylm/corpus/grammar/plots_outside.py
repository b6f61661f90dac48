"""Plots out of doors: small adventures of children."""

# ruff: noqa: E501  (a row of a table is one line)

from __future__ import annotations

from tinylm.corpus.grammar.lexicon import PLACES, TOYS, table, things
from tinylm.corpus.grammar.plot import Plot

__all__ = ["PLOTS"]

_FLYERS = things(
    """
    kite: red blue green yellow pink purple orange new long
    ball: red blue green yellow pink purple orange new bouncy
    balloon: red blue green yellow pink purple orange white
    hat: red blue green yellow pink new funny
    paper plane: white little new
    toy plane: red blue green yellow new shiny
    frisbee: red blue green yellow purple orange
    scarf: red blue green yellow pink purple
    """
)
_HELPS = table(
    "tool | fetch",
    """
    a ladder | climbed up and got the {flyern} down
    a long stick | pushed the {flyern} until it fell down
    a broom | poked the {flyern} gently, and down it came
    a rake | pulled the {flyern} out of the leaves
    an umbrella | hooked the {flyern} with the handle and pulled it down
    a fishing rod | caught the {flyern} with the hook
    a chair | stood on it and got the {flyern} down
    a rope | shook the branch with the rope until the {flyern} fell
    """,
)

_BABIES = table(
    "baby | sound | mother | home_at | went_home",
    """
    bird | chirped | mother bird | in a nest in the tall tree | put the bird back into the nest
    duckling | quacked | mother duck | on the pond | set the duckling on the water
    kitten | meowed | mother cat | in the old barn | put the kitten down in the soft hay
    puppy | whimpered | mother dog | behind the farm house | put the puppy down next to her
    squirrel | squeaked | mother squirrel | in the big oak tree | let the squirrel climb up the tree
    lamb | bleated | mother sheep | in the green field | lifted the lamb over the fence
    bunny | shook | mother rabbit | under the big bush | let the bunny hop into the burrow
    hedgehog | sniffed | mother hedgehog | under a pile of leaves | put the hedgehog down on the leaves
    goat | cried | mother goat | on the hill | carried the goat up the hill
    turtle | looked around | mother turtle | by the lake | set the turtle down by the water
    fox | whined | mother fox | at the edge of the forest | let the fox run to its den
    owl | hooted | mother owl | in the old barn | put the owl up on the beam
    pig | squealed | mother pig | at the farm | let the pig back in through the gate
    chick | peeped | mother hen | in the hen house | put the chick down in the straw
    """,
)

_SEEDS = table(
    "seed | sprout | fruit | enjoy",
    """
    sunflower seed | a tall green stem | a big yellow sunflower | The flower was taller than {hero}
    bean | a curly green stem | many long beans | They cooked the beans for dinner
    pumpkin seed | a long green vine | a big orange pumpkin | They made a pumpkin pie
    tomato seed | a small green plant | round red tomatoes | The tomatoes were sweet and juicy
    strawberry seed | three little leaves | sweet red strawberries | The strawberries were the best in the world
    carrot seed | a bit of green | a long orange carrot | The carrot was sweet and crunchy
    rose seed | small green leaves | a beautiful red rose | The rose smelled wonderful
    apple seed | a thin little stem | a small tree with white flowers | One day, there would be apples on it
    tulip bulb | a green tip | a bright pink tulip | Bees came to visit the tulip
    pea | a thin green stem | many fat green peas | The peas were sweet
    melon seed | a round green leaf | a big green melon | The melon was sweet and full of juice
    daisy seed | tiny green leaves | a white daisy with a yellow heart | Butterflies came to visit the daisy
    """,
)

_GRUMPY = table(
    "grump | ghe | ghim | ghis",
    """
    Mr. Grump | he | him | his
    old Mr. Black | he | him | his
    old Mrs. Frost | she | her | her
    Mr. Crab | he | him | his
    Mrs. Sharp | she | her | her
    old Mr. Moss | he | him | his
    old Mrs. Finch | she | her | her
    Mr. Thorn | he | him | his
    """,
)
_PRESENTS = (
    "a bunch of flowers",
    "a warm apple pie",
    "some fresh cookies",
    "a bowl of soup",
    "a picture of {ghis} house",
    "a basket of pears",
    "a card with a big heart",
    "a jar of jam",
    "a little cake",
    "a warm loaf of bread",
)

_WARNINGS = table(
    "rule | why | deed | harm | cure",
    """
    touch the hot stove | it is very hot | {He} put one finger on the stove | Ouch! {His} finger was red and hurt | held the finger under cold water
    climb on the shelf | it can fall over | {He} climbed up to the second board | The shelf moved, and {hero} fell down on {his} bottom | looked at {his} arms and legs, and nothing was broken
    run on the wet floor | it is slippery | {He} ran as fast as {he} could | Whoosh! {He} slipped and bumped {his} knee | put a bandage on the knee
    eat the green berries | they are not ripe | {He} ate five of them | Soon {his} tummy hurt very much | gave {him} warm tea
    go near the pond alone | it is deep | {He} leaned over to look at a fish | Splash! {He} fell into the cold water | pulled {him} out and wrapped {him} in a towel
    go out without a coat | it is cold | {He} played in the snow in a thin shirt | In the evening, {he} sneezed and sneezed | put {him} to bed with hot milk
    pull the cat's tail | the cat does not like it | {He} pulled it just once | Hiss! The cat scratched {his} hand | washed the hand and put a bandage on it
    ride down the steep hill | you will go too fast | {He} rode down with {his} feet in the air | {He} went faster and faster and fell into a bush | pulled the thorns out of {his} sleeve
    play with the scissors | they are sharp | {He} wanted to cut some paper | Snip! {He} cut {his} thumb a little | put a bandage on the thumb
    jump from the wall | it is too high | {He} jumped and waved {his} arms like a bird | {He} landed hard and hurt {his} foot | carried {him} home
    poke the bees' nest | the bees will get angry | {He} poked it with a long stick | Buzz! A bee stung {him} on the nose | put some ice on {his} nose
    stay in the sun without a hat | the sun is too hot | {He} left the hat at home and played for hours | Then {his} head hurt, and {he} felt dizzy | gave {him} water and sat with {him} in the shade
    """,
)

_WISHES = table(
    "wish | fun | trouble",
    """
    to be as tall as a tree | {He} could look over all the houses and touch the clouds | But {he} did not fit into {his} house or {his} bed, and nobody could hear {him}
    to be as small as an ant | {He} rode on a beetle and slept in a flower | But then a big bird looked at {him}, and all the grass was like a dark forest
    that everything was made of candy | {He} ate a candy chair and a candy door | But soon {his} tummy hurt, and there was no water and no bread
    to fly like a bird | {He} flew over the park and waved at the birds | But the wind blew {him} far away, and {he} could not find {his} house
    that it was always night | {He} could stay up late and look at the stars | But the flowers closed, the birds were silent, and nobody played outside
    that nobody could see {him} | {He} took a cookie and nobody saw it | But {his} {elder} could not see {him} either, and nobody talked to {him}
    that all {his} toys could talk | {He} talked and played with them all day | But the toys talked all night as well, and {he} could not sleep
    for a hundred puppies | The puppies jumped and played with {him} | But they ate all the food, chewed all the shoes and barked all night
    that it was always summer | {He} swam in the lake every day | But all the plants got dry, and there was never any snow to play with
    never to sleep again | {He} played all night long | But nobody else was awake, and soon {he} was tired and sad
    to be the king of the world | Everybody had to do what {he} said | But nobody wanted to play with {him}, and {he} was lonely
    that it rained milk | {He} held out a cup and drank and drank | But the streets were sticky, and everyone was wet and cross
    """,
)
_MAGIC = things(
    """
    stone: shiny blue golden round
    lamp: old golden dusty
    ring: golden silver strange
    shell: shiny pink silver
    key: golden old strange
    bottle: green dusty old
    feather: golden silver long
    coin: golden strange shiny
    leaf: golden silver
    star: tiny golden
    """
)

_GIFTS = table(
    "wanted | shop | made | joy",
    """
    a golden necklace | the shop | a necklace from little shells | put it on right away and never took it off that day
    a big box of chocolates | the shop | a heart from sweet dough | ate it with a smile
    a blue vase | the market | a bowl from clay and painted it blue | put it in the middle of the table
    a pair of warm gloves | the shop | a card with two hands and a red heart | put the card on the wall over the bed
    a silver bracelet | the shop | a bracelet from red and yellow beads | wore it every day
    a music box | the toy shop | up a song about the two of them | wanted to hear it again and again
    a fine picture | the shop | a picture of the whole family | hung it over the couch
    a bunch of roses | the flower shop | a crown from wild flowers | wore it all day long
    a nice book | the book shop | a little book with a story and pictures | read it aloud three times
    a new hat | the market | a paper hat with feathers on it | wore it at the party
    a soft pillow | the shop | a bookmark from a pressed flower | put it in {his3} favorite book
    a big cake | the bakery | a tiny cake with one candle | ate every bit of it
    """,
)

_SNOW = table(
    "nose | snowhat | sname",
    """
    carrot | an old hat | Frosty
    carrot | a red bucket | Mr. Snow
    pine cone | a green hat | Chilly
    small stick | a flower pot | Snowy
    red apple | a straw hat | Mr. White
    potato | a blue cap | Pepper
    carrot | a black hat | Mr. Cold
    yellow pear | a woolly cap | Flake
    orange peel | a cooking pot | Captain Ice
    """,
)

_PETS = table(
    "pet | odd | sound2 | trick",
    """
    dog | had only three legs | barked softly | ran almost as fast as the others
    dog | was old and gray | barked softly | put its head on {hero}'s knee every night
    cat | had only one eye | purred softly | always found the way to {hero}'s bed
    cat | was very shy | purred softly | followed {hero} from room to room
    rabbit | had one ear that hung down | sniffed softly | hopped in circles when {hero} came home
    pony | was small and slow | neighed softly | carried {hero} safely over every hill
    parrot | had lost some feathers | squawked softly | learned to say {hero}'s name
    puppy | was the smallest of all | whined softly | grew big and strong
    kitten | was thin and dirty | meowed softly | became soft and round
    hamster | was round and sleepy | squeaked softly | ran in the wheel when {hero} sang
    turtle | had a scratch on the shell | blinked | ate salad out of {hero}'s hand
    dog | was afraid of every noise | whimpered softly | became brave next to {hero}
    """,
)

PLOTS = (
    Plot(
        "stuck high",
        "child",
        {"flyer": _FLYERS, "helps": _HELPS, "places": PLACES[:1] + PLACES[2:4] + PLACES[8:11]},
        """
        - <intro>
        - One windy [day/morning/afternoon], {he} went to {place} with {his} {flyer}. {hero} [ran and laughed/was so happy/had a lot of fun/skipped along the path].
        - Then a strong wind came. It took the {flyern} and blew it up, up, up. The {flyern} got stuck in a tall tree.
        - "Oh no! My {flyern}!" {hero} [cried/shouted].

        - {He} jumped as high as {he} could, but {he} could not reach it. [{He} shook the tree, but the {flyern} did not move./{He} tried to climb the tree, but it was too
          hard./{He} threw a stick at it, but the stick fell down again.]
        - {hero} [sat down/sat under the tree] and [felt <sad>/began to cry].
        - {His} {rel} {friend} came by. "[What is wrong/Why are you so sad]?" asked {friend}. "My {flyern} is stuck in the tree," said {hero}.

        - Then {friend} looked up. [{He2} thought for a moment./{He2} thought hard.] "[Wait here/I have an idea/I will help you]!" {he2} said. {He2} ran home and came back with {tool}.
        - {hero} held {friend}, and {friend} {fetch}.
        - "[Hooray/Yay]! <thanks>!" said {hero}. [{He} hugged {his} {flyern}./{He} danced around the tree.]
        - They played together <longtime>. And {hero} [held {his} {flyern} tight/stayed away from the tall tree/was careful when the wind blew].
        """,
    ),
    Plot(
        "baby animal",
        "child",
        {"babies": _BABIES, "places": PLACES[:1] + PLACES[2:3] + PLACES[4:5] + PLACES[8:11]},
        """
        - <intro>
        - <fineday>, {hero} [went for a walk/was playing] {at}.[ <scene>/] {He} heard a small sound. [Behind a stone/Under a bush/In the grass], {he} found a [little/tiny] {baby}. It was all alone. It {sound} and [looked very sad/looked lost].
        - "[Hello, little one/Oh, you poor little thing]!" said {hero}. "[Where is your mother/Did you lose your mother]?"

        - So {hero} picked the {baby} up very gently. [It was soft and warm./{He} could feel its little heart.] [{He} wanted to keep it./"Can I keep it?" {he} thought.] But the {baby} [looked at {him} with sad eyes/needed its mother].
        - "<dontworry>," {he} whispered. "I will [take you home/find your mother]."
        - {He} looked [by the gate/next to the path], but there was no {mother}. {He} looked [by the wall/near the old shed], but there was no {mother} there[ either/].
        - Then {he} heard a [loud/worried] call. There, {home_at}, was the {mother}! She was looking for her baby.

        - So {hero} went [slowly/quietly] and {went_home}. The {mother} [was so happy/ran to her baby/came at once]. The little {baby} [pressed close to her/was safe and warm/was not scared anymore].
        - {hero} felt [warm/happy] inside. "[Goodbye, little {baby}/Be safe, little {baby}]!" {he} said[ and waved/].
        - {He} told {his} {elder} about it. "[You did the right thing/You were very kind/I am proud of you]," {he3} said.
        """,
    ),
    Plot(
        "garden",
        "child",
        {"seeds": _SEEDS},
        """
        - <intro>
        - One spring [day/morning], {his} {elder} gave {him} {a seed}. "[Plant it/Put it in the ground] and [take care of it/give it water every day]," {he3} said. "[Then you will see a surprise/Then wait and see]."
        - {hero} [dug a hole/made a hole in the soft ground] and [put the {seed} in it/planted the {seed}]. {He} gave it water. Then {he} sat down and waited.

        - But nothing happened. The next day, there was [nothing/only brown earth]. [After three days/After a week], there was still nothing.
        - {His} {rel} {friend} [laughed/shook {his2} head]. "[Nothing will ever grow there/It does not work]," {he2} said. "[Just wait/You must be patient]," said {hero}. But {he} was a little sad too.
        - "Why does it not grow?" {he} asked {his} {elder}. "[Good things take time/Growing takes time/Plants need time]," {he3} said. "[Do not give up/Be patient/Keep on giving it water]."

        - So {hero} came back every [day/morning] with {his} little [green/red/blue] watering can. [{He} sang to it./{He} pulled out the weeds./{He} kept the birds away.]
        - Then, one morning, {he} saw {sprout}! "[Look, look/Come and see/It is growing]!" {he} [shouted/called].
        - [The plant/It] grew and grew. At the end of the summer, {hero} found {fruit}.
        - {enjoy}. "You were right," said {friend}. {hero} smiled. {He} had learned to [be patient/wait].
        """,
    ),
    Plot(
        "grumpy neighbor",
        "child",
        {
            "grumpy": _GRUMPY,
            "present": _PRESENTS,
            "toy": tuple(
                thing for thing in TOYS if thing.noun in ("ball", "toy plane", "kite", "balloon", "hula hoop")
            ),
        },
        """
        - <intro> Next door lived {grump}. {Ghe} never smiled. All the children were afraid of {ghim}.
        - <day>, {hero}'s {toyn} flew over the fence and landed in {grump}'s garden. "Go away!" {ghe} shouted from the window. {hero} [ran home/ran away] without {his} {toyn}.

        - "{Grump} is so [mean/grumpy]," {he} told {his} {elder}. "[Maybe {ghe} is sad/Maybe {ghe} is lonely/Maybe nobody is kind to {ghim}]," said {his} {elder}.
        - {hero} thought about it. [All night, {he} thought about it. /]The next day, {he} took {present} and knocked on {grump}'s door. {His} heart beat [fast/very fast].
        - The door opened. "What do you want?" asked {grump}. "[This is for you/I brought you something]," said {hero}. "I am sorry about the {toyn}."

        - {Grump} looked at the present. {Ghe} was quiet for a long time. Then something happened. {Ghe} smiled! "Nobody [has brought me anything/has been so kind to me] for a long time," {ghe} said.
        - "[Come in/Come in, come in]! Here is your {toyn}." They [sat in the kitchen/sat in the garden] and talked. {Grump} told {hero} [funny stories/stories about the sea/stories of old times].
        - From that day on, {hero} visited {grump} every [week/Sunday]. {Ghe} was not grumpy anymore. {Ghe} had only been lonely.
        | {hero} learned that [a little kindness can change everything/some people look grumpy because they are lonely]. And {grump} had a new friend.
        """,
    ),
    Plot(
        "warning",
        "child",
        {"warnings": _WARNINGS},
        """
        - <intro>
        - "Do not {rule}," {his} {elder} always told {him}. "[Remember: {why}./You must not do it, because {why}.]" "[Yes/All right], {Elder}," said {hero}.
        - But [one day/one morning/one afternoon], {his} {elder} was busy. "[I only want to try it once/Just this once/Nothing will happen]," {hero} thought. {deed}.

        - {harm}. {hero} cried[ and called for {his} {elder}/].
        - {His} {elder} came [running/at once]. {He3} {cure}. [{hero} felt a little better./Slowly, it got better.]
        - "I am sorry," said {hero}. "[I did not listen to you/You told me not to do it]."
        - {His} {elder} <hugged>. "I [do not say these things to be mean/tell you these things to keep you safe]," {he3} said. "[I love you/I want you to be safe]."

        - So {hero} [nodded/wiped {his} tears]. From that day on, {he} listened to {his} {elder} and did not {rule} again.
        | After that, {hero} was careful. {He} had learned to listen.
        """,
    ),
    Plot(
        "magic wish",
        "child",
        {"magic": _MAGIC, "wishes": _WISHES, "places": PLACES[:1] + PLACES[1:3] + PLACES[4:5] + PLACES[7:9]},
        """
        - <intro>
        - <day>, {hero} found {a magic} {at}. {He} rubbed the {magicn}, and it began to [glow/shine]. "I am a magic {magicn}," said a tiny voice. "[You have one wish/You may make a wish]."
        - {hero} [could not believe it/was so surprised]. {He} thought hard. Then {he} wished {wish}.

        - Poof! The wish came true. [At first, it was wonderful./At first, it was great fun.] {fun}.
        - {trouble}. {hero} was not happy [anymore/at all]. [{He} wanted everything to be as it was before./{He} sat down and cried.]
        - "Please, {magicn}," {he} said. "[Take my wish back/Make everything as it was before]!" The {magicn} began to [glow/shine] [again/once more]. "[Are you sure/Do you really want that]?" asked the tiny voice. "Yes,
          [please/I am sure]!" said {hero}.

        - Poof! Everything was [normal again/as it was before]. {hero} [ran home/ran home as fast as {he} could] and hugged {his} {elder}. "[What happened/Where were you]?" asked {his} {elder}. "[I am just happy/I am so glad that
          everything is the way it is]," said {hero}.
        - {hero} [put the {magicn} back where {he} had found it/put the {magicn} under a rock]. {He} had learned to [be happy with what {he} had/think before {he} wished for something].
        """,
    ),
    Plot(
        "gift",
        "child",
        {"gifts": _GIFTS},
        """
        - <intro>
        - Soon it was {his} {elder}'s birthday. {hero} wanted to [buy/get] {wanted} for {him3}. {He} took all {his} coins and went to {shop}.
        - But {wanted} cost too much. {hero} counted {his} coins [again and again/two times]. [There were only three./{He} did not have enough.] {He} [walked home/went home] with a sad face.

        - "What can I do?" {he} [asked {himself}/thought]. "I have no gift."
        - Then {he} had an idea. "I can make something [myself/with my own hands]!" {he} said. {hero} went to {his} room and closed the door. {He} made {made}. It was [a lot of work/not easy], but it was fun.

        - On the birthday, {hero} [was shy/was a little worried]. "[It is only a small thing/I had no money for a big gift]," {he} said. "[I made it for you/But I made it myself]."
        - {His} {elder} [had tears in {his3} eyes/smiled and smiled/was very quiet]. "This is the best gift of all," {he3} said. "[You made it with love/It comes from your heart]." {He3} {joy}.
        - {hero} was <glad>. {He} learned that [the best gifts come from the heart/love is worth more than money/you do not need money to make someone happy].
        """,
    ),
    Plot(
        "snowman",
        "child",
        {"snow": _SNOW},
        """
        - <intro>
        - One winter morning, everything was white. "[Snow, snow/It snowed]!" {hero} shouted. {He} put on {his} [coat and gloves/boots and hat] and ran outside with {his} {rel} {friend}.
        - They rolled one big ball and one small ball of snow. They gave the snowman {a nose} for a nose and put {snowhat} on his head. "[His name is/Let's call him] {sname}," said {friend}.
        - {hero} and {friend} played with the snowman every day. [They danced around him./They told him stories./They threw snowballs next to him.]

        - But one day, the sun was warm. {sname} got smaller and smaller. "[Oh no/Look]! {sname} is melting!" {hero} cried.
        - They tried to help. [They put more snow on him./They held an umbrella over him./They moved him into the shade.] But it was too warm. In the evening, only {a nose} and {snowhat} were left.
        - {hero} was <sad>. {friend} had tears in {his2} eyes too.

        - Then {hero}'s {elder} came out to them. "<dontworry>," {he3} said. "Now {sname} is water. The water helps the flowers grow. And next winter, it comes back as snow."
        - {hero} [looked at the wet grass/thought about it]. There was a tiny [white/yellow/purple] flower! "[Hello/Thank you], {sname}," {he} whispered.
        - {hero} and {friend} kept the things for the next snowman. They could hardly wait for the next winter.
        """,
    ),
    Plot(
        "choosing a pet",
        "child",
        {"pets": _PETS},
        """
        - <intro> {He} wished for a {pet} more than anything.
        - On {his} birthday, {his} {elder} took {him} to a house with many animals. "You may choose {a pet}," {he3} said. {hero} [jumped up and down/was so happy].
        - There were so many! One {pet} was [white/black] and [pretty/proud]. One was [fast/strong/funny]. [All the children stood around them./All the people wanted to have them.]

        - But in the corner sat {a pet} all alone. It {odd}. "Nobody wants that one," said a boy. {hero} went to the corner and sat down. The {pet} looked at {him} and {sound2}.
        - "Hello," said {hero}. "[Do you want to come home with me?/I am {hero}./I like you.]" {He} held out {his} hand. The {pet} came closer, one step at a time.
        - "[I want this one/This is the one], {Elder}," said {hero}. "Are you sure?" asked {his} {elder}. "Yes," said {hero}. "[It needs a friend/It needs me/It is just right for me]."

        - So they took the {pet} home. {hero} gave it [food and water/good food], a soft bed and a lot of love. [Day by day/Every day], it got [happier/less shy].
        - Soon, the {pet} {trick}. Everyone could see how [special/wonderful] it was.
        - {hero} had always known it. [The best friend is not always the prettiest one./Love can make anyone shine./{He} had the best {pet} in the world.]
        """,
    ),
)
