"""Words that name nothing in the demo world; the checkpoint learns to answer "not here" to them."""

_NOUNS = """
    dog cat horse cow sheep bird fish bear elephant zebra giraffe lion tiger monkey rabbit mouse rat frog snake
    spider ant bee butterfly duck goose chicken pig goat deer wolf fox whale shark dolphin turtle crab person man
    woman child boy girl baby player driver worker teacher doctor nurse police soldier crowd face hand arm leg foot
    eye ear nose mouth hair head car bus truck van bicycle motorcycle train tram plane helicopter boat ship wheel
    tire window door wall roof house building bridge road street sidewalk sign light lamp pole tree bush flower
    grass leaf branch root rock stone sand mountain hill river lake sea ocean beach cloud sky sun moon rain snow ice
    fire smoke table chair sofa bed desk shelf cupboard drawer mirror picture clock vase carpet curtain pillow
    blanket towel bottle cup glass plate bowl knife fork spoon pan pot oven stove fridge sink toilet bath soap brush
    bag suitcase backpack wallet key phone laptop computer keyboard screen television remote camera radio speaker
    headphones cable battery book paper pen pencil ruler scissors tape glue box bin basket bucket ladder hammer
    screwdriver saw drill nail screw rope chain shirt jacket coat dress skirt trousers jeans shoe boot sock hat cap
    helmet glove scarf belt tie ring necklace watch apple banana orange fruit pear grape lemon strawberry cherry
    peach melon tomato potato carrot onion pepper cucumber lettuce mushroom corn bread cake cookie pizza sandwich
    burger cheese egg meat sausage rice pasta soup salad coffee tea milk juice water wine beer ball bat racket net
    goal kite skateboard surfboard ski snowboard doll toy puzzle balloon candle flag map coin stamp ticket letter
    number arrow line corner heart cross diamond hexagon pentagon rectangle oval cylinder cube sphere pyramid spiral
    crescent cell nucleus bone lung tumor crack rust weld bolt pipe valve tank pump engine gear spring crane
    container pallet forklift cone barrier fence gate tent umbrella bench fountain statue tower castle church
    airport station harbor field farm barn tractor plow garden park forest desert pink grey gray brown cyan magenta
    gold silver turquoise beige violet crimson nothing text background shadow yellow school traffic hydrant stop
    parking meter tennis hot teddy
"""

OTHER_NOUNS: tuple[str, ...] = tuple(_NOUNS.split())
