"""The words by which `suggest` recognises columns, rows and values. Patterns are for labels: lower-case words."""

_PERSON = (
    "user|student|learner|person|examinee|candidate|respondent|participant|subject|pupil|child|test taker"
    "|alumno|estudiante|élève|schüler|schueler|teilnehmer|학생|응시자|학번|学生|生徒"
)
_ITEM = "item|question|problem|task|exercise|pregunta|frage|aufgabe|문항|문제|問題|题目"
_NO_ANSWER_TIME = r"^(?!.*(access|log ?in|enrol|birth|joined|seen|created|exported|\bstart|\bbeg[iau]n))"
_STARTED = r"^(start(ed)?|began|begin|begonnen)( ?(at|on|date|time))?$|^date started$"
USER = (
    rf"^(anon )?({_PERSON})( external| internal| user)? ?(id|number|no|nr|code|key)$",
    r"학번|응시번호|수험번호|^matr(ikel)? ?(nummer|nr)$",
    r"^(user ?name|login( id)?|sis (login|user) id|sis id|benutzername)$",
    r"^(record|response|respondent|submission|case) ?id$",
    r"^(id|id number|id nummer|uid|token|code|no|(lfd )?nr|row names?|unnamed 0)?$",
    rf"^({_PERSON})$",
    r"^e ?mail( address| adresse)?$",
    r"^(full |display )?name$",
)
USER_PARTS = (r"^(last name|surname|family name|nachname)$", r"^(first name|given name|vorname)$")
ITEM = (
    rf"^({_ITEM}) ?(id|number|no|nr|code|key|번호)$",
    r"^(location|answer id|content id|block key)$",
    rf"^({_ITEM})( name| title)?$",
)
ITEM_PARTS = (r"^problem name$", r"^step name$")
KEY = (r"^(correct|right) ?(answer|response|option|choice)s?$", r"^(answer )?key$", r"^solution$")
GRADED = (
    r"^(manual|hand)\w*( graded| marked)? (score|points|mark)$",
    r"^auto\w*( graded| marked)? (score|points|mark)$",
)
"""Marks of people, and of programs."""
TOPIC = r"^(topic|skill|domain|content area|kc|chapter|unit)( (id|name|default))?$"
TIMES = {
    "zone": (r"^time ?zone$",),
    "completed_at": (
        r"^(completed|submitted|answered|finished|beendet)( ?(at|on|date|time))?$|^date submitted$|^submit ?date$",
        rf"^(end|recorded|completion|submission|finish) ?(date|time)$|{_NO_ANSWER_TIME}.*(time|date) ?stamp$",
        r"^(server time|time|date|datetime|created( at)?|zeit(stempel)?|fecha|일시|시각)$",
        _NO_ANSWER_TIME,
        _STARTED,
    ),
    "started_at": (_STARTED,),
}
"""Our column → labels of the file's columns, the likeliest first."""
LIST = {
    "key": KEY,
    "score": (
        r"^(score|is ?correct|correct first attempt|first attempt correct)$",
        r"^(correct(ness)?|right|outcome|acc(uracy)?|richtig|acierto|정답여부|채점|punkte|puntaje|점수)$",
        r"^(points?|auto score|earned( points)?|points? (earned|awarded)|marks?|grade|credit|result|state)$",
        r"^(resp|response|answered correctly|x)$",
    ),
    "response": (
        r"^(user|student|given|learner|chosen|selected) ?(answer|response|option|choice)$",
        r"^(response|answer|choice|option|input|selection|resp|antwort|respuesta|응답|답)$",
    ),
    "maximum": (
        r"^(points? possible|possible( points?| score)?)$",
        rf"^(({_ITEM}) )?max(imum)?( ?(points?|punkte|score|marks?|grade))?$",
    ),
    "response_time_ms": (
        r"^(rt|latency|duration|ms)( sec| ms| s)?$|(response|reaction|elapsed|answer) time|^time taken",
    ),
    "topic_id": (TOPIC,),
    "form_id": (r"^(test )?form( id)?$",),
    "session_id": (r"^(session|sitting|test session|solving)( id)?$",),
    "attempt_id": (r"^(attempt|transaction|event|log|response) id$",),
    "hints_used": (r"^hints?( (used|count))?$|^help level$",),
}
QUESTION = {
    "item_id": (*ITEM, r"^(name|label)$"),
    "b": (r"^((irt )?b|difficulty|delta|location|xsi|beta|item difficulty|measure)$",),
    "a": (r"^((irt )?a|discrimination|slope|disc)$",),
    "c": (r"^((irt )?c|guessing|pseudo guessing|lower asymptote)$",),
    "b_se": (r"^(se|s e|std error|standard error|b se|se b|model s e|modlse)$",),
    "a_se": (r"^(a se|se a)$",),
    "key": KEY,
    "topic_id": (TOPIC,),
}
FREQUENCY = (r"^(freq(uency)?s?|counts?|n|obs(erved)?|weight|wt|häufigkeit|anzahl)$",)
MAX_SECONDS = 1000.0  # a median of response times from here on is in milliseconds
NOT_ITEM = (
    r"^(gender|sex|age|class|klasse|year|group|gruppe|school|country|lang|language|race|ses|form|version|seed|page"
    r"|last ?page|start language|status|finished|progress|duration|total|sum|percent\w*|attempts?|sections?|complete"
    r"|state|latitude|longitude|email|consent|theta|ability|rank|position|weight|wave|n correct|n incorrect|geschlecht"
    r"|alter|treat|cov|grade|bewertung|note|gesamt|summe|성별|나이|학년|반|지역)\b|\b(id|name|date|time|total|sum|score|type|channel|percent|level"
    r"|language|grade|feedback|comments?|complete)$"
)
"""Facts about persons, totals and paradata."""
NEVER_ITEM = r"\bcomplete$|^(rt|time|latency|duration)\b|\b(time|rt|ms|sec|seconds|latency|click|click count|submit)$"
"""Times of answers and states of forms, even if their names form a family."""
_TOTAL = r"(?:(?:final |total )?(?:grade|score|mark|points|note|bewertung)|total|sum|summe|gesamt)\b"
_POINTS, _UNIT = r"\d+(?:[.,]\d+)?", "(?:pts?|points?|punkte|score)"
PARTS = (
    ("key", r"(?:(?:right|correct)[ _](?:answer|response|option)[ _]|prikey)(?P<item>\d+)"),
    ("mark", r"mark(?P<item>\d+)"),
    ("id", r"(?:question|item)[ _]id[ _](?P<item>\d+)"),
    ("maximum", r"(?P<item>.+?)\W*(?:points )?possible\W*"),
    ("maximum", r"(?:possible points|max\w*(?: score| points)?) (?P<item>\d+)"),
    ("score", rf"(?P<item>(?!{_TOTAL}).+?)\s*/\s*(?P<maximum>{_POINTS})"),
    ("score", rf"(?P<item>(?!{_TOTAL}).+?)\s*[\[(](?:total )?{_UNIT}?:?\s*(?P<maximum>{_POINTS})\s*{_UNIT}\s*[\])].*"),
    ("score", r"(?P<item>.+?)\s*[\[(]\s*(?:score|points?|earned|mark|grade)\s*[\])]"),
    ("score", r"(?P<item>.+?)[ _:-]+(?:score|points|earned)"),
    ("score", r"points? - (?P<item>.+)"),
    ("score", r"(?:auto )?(?:(?:score|points|mark|earned)[ _]|points)(?P<item>\d+)"),
    ("answer", r"(?:(?:response|answer)[ _]|stu)(?P<item>\d+)"),
    ("answer", r"(?P<item>.+?)[\s_:\[(-]+(?:answer|response|text|given|choice)[\])]?"),
)
"""Names of the columns that an item has if it has several: the part in the column → the whole name."""
ROWS = {
    "key": r"\W*(?:answer |scoring )?keys?\W*|correct answers?|solutions?|schlüssel|정답|clave",
    "maximum": r"\W*(?:points? possible|possible points?|max(?:imum)? (?:points?|scores?|marks?)|out of)\W*",
    "total": r"(?:(?:overall|class|group|grand) )?(?:average|mean|median|total)s?|std\.? ?dev\w*"
    r"|(?:gesamt)?durchschnitt|mittelwert",
}
"""Kinds of rows that are not answers → their cell in a column of learners."""
NOTHING = frozenset(
    ("-", "--", "-- / --", "na", "n/a", ".", "null", "none", "nan", "#n/a", "#null!", "not attempted", "not available")
    + ("not answered", "no answer", "not yet answered", "did not attempt", "missing", "not graded", "keine angabe")
)
"""Texts, in lower case, that mean that there is no answer."""
CODES = frozenset(float(x) for n in (7, 8, 9) for x in (n, 11 * n, 90 + n, 990 + n, 9990 + n))
"""Numbers that often mean that there is no answer. They and negative numbers do so only beyond a gap."""
RIGHT_OR_WRONG = dict.fromkeys(
    ("correct", "right", "true", "t", "richtig", "correcto", "vrai", "맞음", "정답", "o", "✓", "1", "ok"), True
) | dict.fromkeys(
    (
        "incorrect",
        "wrong",
        "false",
        "f",
        "falsch",
        "incorrecto",
        "faux",
        "틀림",
        "오답",
        "x",
        "0",
        "error",
        "bug",
        "hint",
    )
    + ("partially correct",),
    False,
)
ORDERED = (
    ("strongly disagree", "disagree", "somewhat disagree", "slightly disagree", "neither agree nor disagree", "neutral")
    + ("undecided", "slightly agree", "somewhat agree", "agree", "strongly agree"),
    ("never", "almost never", "rarely", "seldom", "occasionally", "sometimes", "often", "usually", "very often")
    + ("almost always", "always"),
    ("not at all", "a little", "a little bit", "slightly", "somewhat", "moderately", "quite a bit", "very", "very much")
    + ("a lot", "extremely"),
    ("very dissatisfied", "dissatisfied", "neutral", "satisfied", "very satisfied"),
    ("very poor", "poor", "fair", "good", "very good", "excellent"),
    ("no", "perhaps", "maybe", "yes"),
    ("unchecked", "checked"),
)
"""Labels of rating scales, from the lowest."""
LABELS = frozenset(label for scale in ORDERED for label in scale)
MAX_LABELS, MAX_LABEL = 12, 60
DATES = ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y.%m.%d", "%d %B %Y", "%d %b %Y") + (
    ("%A, %d %B %Y", "%B %d, %Y", "%b %d, %Y", "%m/%d/%y", "%d/%m/%y", "%d.%m.%y", "%Y-%m-%d")
)
CLOCKS = ("%H:%M:%S", "%H:%M", "%I:%M:%S %p", "%I:%M %p", "%H:%M:%S.%f", "%I:%M%p")
