"""Facts among real paragraphs: keyed needles, of one hop and of two, and stories in the way of bAbI.

What is asked stands among paragraphs that say nothing of it. Rows are of the task `tag`: a class at the last word of each question, so that
every model reads its answers at the same places. Paragraphs come from HotpotQA and NarrativeQA.
"""

import words

PEOPLE = "Alice Bruno Clara David Elena Frank Greta Hugo Irene Jacob Karin Louis Maria Nadia Oscar Paula".split()
NUMBERS = "zero one two three four five six seven eight nine".split()
PLACES = "kitchen garden office bathroom hallway bedroom cellar attic".split()
THINGS = "apple football milk book lamp letter".split()
LONGEST_PARAGRAPH = 60  # words of it


def pieces(text, longest=LONGEST_PARAGRAPH):
    """The words of a text in stretches of `longest`; a rest of less than half is left out."""
    all_words = text.split()
    stretches = [all_words[place : place + longest] for place in range(0, len(all_words), longest)]
    return [stretch for stretch in stretches if len(stretch) >= longest // 2]


def among(draw, sentences, paragraphs, count):
    """Sentences in their order, each between two of `count` paragraphs drawn at random, as one list of words."""
    parts = [(place, paragraph) for place, paragraph in enumerate(draw.sample(paragraphs, count))]
    places = sorted(draw.randint(0, count) for _ in sentences)
    row = []
    for place in range(count + 1):
        for sentence, own in zip(sentences, places):
            if own == place:
                row += sentence.split()
        if place < count:
            row += parts[place][1]
    return row


def needle(draw, paragraphs, count, hops=1, needles=4, direct=0):
    """Codes of several people, and at the end a question for each; it names the person, or, with two hops, a friend.

    With two hops, `direct` of the questions, drawn at random, name the person nevertheless.
    `relations`: the places of one name are related, in paragraphs too.
    """
    people = draw.sample(PEOPLE, 2 * needles)
    owners, friends = people[:needles], people[needles:]
    codes = [draw.randrange(10) for _ in owners]
    sentences = [f"The code of {name} is {NUMBERS[code]} ." for name, code in zip(owners, codes)]
    questions = [f"What is the code of {owner} ?" for owner in owners]
    if hops == 2:
        sentences += [f"The friend of {friend} is {owner} ." for friend, owner in zip(friends, owners)]
        for asked in draw.sample(range(needles), needles - direct):
            questions[asked] = f"What is the code of the friend of {friends[asked]} ?"
    draw.shuffle(sentences)
    row = among(draw, sentences, paragraphs, count)
    tags = [None] * len(row)
    for asked in draw.sample(range(needles), needles):
        row += questions[asked].split()
        tags += [None] * (len(row) - len(tags) - 1) + [codes[asked]]
    return {"words": row, "tags": tags, "relations": words.mentions(row, PEOPLE)}


def story(draw, paragraphs, count, facts=1, events=6):
    """People go from place to place; with two facts they carry things. The question is where a person, or a thing, is at the end."""
    people = draw.sample(PEOPLE[:8], 3)
    thing = draw.choice(THINGS)
    where, holder, there, sentences = {}, None, None, []
    for number in range(events):
        # The story of a thing needs somebody who takes it, and goes somewhere with it.
        if facts == 2 and holder is None and number >= 1 and (where and draw.random() < 0.5 or number == events - 2):
            holder = draw.choice(sorted(where))
            there = where[holder]
            sentences.append(f"{holder} took the {thing} .")
            continue
        person = holder if facts == 2 and holder is not None and number == events - 1 else draw.choice(people)
        place = draw.choice([place for place in PLACES if place != where.get(person)])
        where[person] = place
        if person == holder:
            there = place
        sentences.append(f"{person} went to the {place} .")
    if facts == 2:
        question, answer = f"Where is the {thing} ?", PLACES.index(there)
    else:
        person = draw.choice(sorted(where))
        question, answer = f"Where is {person} ?", PLACES.index(where[person])
    return words.asked_at_end(among(draw, sentences, paragraphs, count) + question.split(), answer)
