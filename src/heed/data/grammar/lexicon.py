"""The words of the embedded English-German corpus, as plain tables; `phrases.py` inflects them.

Entries are separated by line ends or semicolons. `_` joins the words of one entry.
"""

NOUNS = {  # kind: "english[/plural] Deutsch gender Plural"; w = weak masculine; plural "-" = singular only
    "person": """
        man/men Mann m Männer; woman/women Frau f Frauen; child/children Kind n Kinder; boy Junge w Jungen
        girl Mädchen n Mädchen; teacher Lehrer m Lehrer; doctor Arzt m Ärzte; king König m Könige
        queen Königin f Königinnen; prince Prinz w Prinzen; princess/princesses Prinzessin f Prinzessinnen
        student Student w Studenten; neighbour Nachbar w Nachbarn; friend Freund m Freunde
        brother Bruder m Brüder; sister Schwester f Schwestern; mother Mutter f Mütter
        father Vater m Väter; grandmother Großmutter f Großmütter; son Sohn m Söhne
        grandfather Großvater m Großväter; daughter Tochter f Töchter; cook Koch m Köche
        farmer Bauer w Bauern; judge Richter m Richter
        actress/actresses Schauspielerin f Schauspielerinnen; nurse Krankenschwester f Krankenschwestern
        police_officer Polizist w Polizisten; thief/thieves Dieb m Diebe""",
    "animal": """
        dog Hund m Hunde; cat Katze f Katzen; horse Pferd n Pferde; bird Vogel m Vögel; bear Bär w Bären
        mouse/mice Maus f Mäuse; cow Kuh f Kühe; pig Schwein n Schweine; monkey Affe w Affen
        rabbit Hase w Hasen; fox/foxes Fuchs m Füchse""",
    "food": """
        apple Apfel m Äpfel; egg Ei n Eier; cake Kuchen m Kuchen; potato/potatoes Kartoffel f Kartoffeln
        sausage Wurst f Würste; banana Banane f Bananen; soup Suppe f Suppen
        tomato/tomatoes Tomate f Tomaten; bread_roll Brötchen n Brötchen""",
    "drink": """
        glass_of_water Glas_Wasser n -; cup_of_coffee Tasse_Kaffee f -; cup_of_tea Tasse_Tee f -
        bottle_of_wine Flasche_Wein f -; glass_of_milk Glas_Milch n -""",
    "text": """
        book Buch n Bücher; letter Brief m Briefe; novel Roman m Romane; poem Gedicht n Gedichte
        report Bericht m Berichte""",
    "tale": "story/stories Geschichte f Geschichten; joke Witz m Witze; secret Geheimnis n Geheimnisse",
    "thing": """
        picture Bild n Bilder; key Schlüssel m Schlüssel; umbrella Regenschirm m Regenschirme
        bag Tasche f Taschen; knife/knives Messer n Messer; gift Geschenk n Geschenke
        flower Blume f Blumen; guitar Gitarre f Gitarren; ball Ball m Bälle; ring Ring m Ringe
        ticket Fahrkarte f Fahrkarten; chair Stuhl m Stühle; table Tisch m Tische""",
    "device": """
        lamp Lampe f Lampen; computer Computer m Computer; camera Kamera f Kameras
        washing_machine Waschmaschine f Waschmaschinen""",
    "clothing": """
        coat Mantel m Mäntel; dress/dresses Kleid n Kleider; shirt Hemd n Hemden; hat Hut m Hüte
        jacket Jacke f Jacken; sweater Pullover m Pullover""",
    "vehicle": """
        car Auto n Autos; bicycle Fahrrad n Fahrräder; boat Boot n Boote; truck Lastwagen m Lastwagen""",
    "opening": """
        door Tür f Türen; window Fenster n Fenster; suitcase Koffer m Koffer; box/boxes Kiste f Kisten""",
    "room": """
        kitchen Küche f Küchen; bedroom Schlafzimmer n Schlafzimmer; cellar Keller m Keller
        bathroom Bad n Bäder""",
    "event": """
        trip Reise f Reisen; party/parties Party f Partys; film Film m Filme; concert Konzert n Konzerte
        game Spiel n Spiele; exam Prüfung f Prüfungen""",
}
# All others follow the rule in `phrases.py`.
GENITIVE = {"Koch": "Kochs", "Film": "Films", "Geheimnis": "Geheimnisses"}
FEMININE = ("girl",)  # neuter, but its pronoun is "she"/"sie"
NO_PRONOUN = ("child",)  # could be "it", "he" or "she": no pronoun, so that English determines the German

NAMES = "Anna f; Maria f; Julia f; Lisa f; Emma f; Peter m; Paul m; Martin m; David m; Simon m"

ADJECTIVES = {  # "english deutsch[/stem]": the kinds of nouns that it describes
    "old alt": "person animal text thing device clothing vehicle opening room",
    "young jung": "person animal",
    "big groß": "animal food thing device vehicle opening room event",
    "small klein": "person animal food thing device vehicle opening room event",
    "new neu": "text thing device clothing vehicle opening room event",
    "beautiful schön": "text thing device clothing vehicle room event",
    "expensive teuer/teur": "thing device clothing vehicle drink event food",
    "cheap billig": "thing device clothing vehicle drink",
    "red rot": "thing clothing vehicle opening", "blue blau": "thing clothing vehicle opening",
    "black schwarz": "animal thing clothing vehicle", "white weiß": "animal thing clothing opening",
    "heavy schwer": "thing device opening", "warm warm": "food clothing room",
    "cold kalt": "food room drink", "delicious lecker": "food drink",
    "long lang": "text tale event", "short kurz": "text tale event",
    "interesting interessant": "text tale event person",
    "important wichtig": "text event person", "sad traurig": "person text tale",
    "dark dunkel/dunkl": "room clothing", "dangerous gefährlich": "animal person event",
    "hungry hungrig": "person animal", "tired müde/müd": "person animal", "clever klug": "person animal",
    "friendly freundlich": "person animal", "rich reich": "person", "poor arm": "person",
    "famous berühmt": "person text",
    "strong stark": "person animal", "happy glücklich": "person",
    "ill krank": "person animal",
}  # fmt: skip
STATES = "young hungry tired happy sad ill poor rich"  # reasons for doing something
COMPARATIVES = {  # "english = deutsch": kinds
    "older = älter": "person animal thing vehicle", "younger = jünger": "person",
    "smaller = kleiner": "person animal", "bigger = größer": "animal vehicle room",
    "stronger = stärker": "animal person", "richer = reicher": "person", "faster = schneller": "animal vehicle",
    "cleverer = klüger": "person animal", "more famous = berühmter": "person",
    "more expensive = teurer": "thing clothing vehicle", "more beautiful = schöner": "clothing thing room",
    "more interesting = interessanter": "text event", "longer = länger": "text event",
}  # fmt: skip

# "english[!] past participle | [sich] [prefix+]infinitive er-form participle[*] | subjects | frame | objects
#  | manner | places". Fields missing at the end are empty.
# ! = a state, without progressive or modal. * = perfect with sein. "auf A" = a preposition and its case.
# "to" = a verb of motion. + = the place is required.
VERBS = """
    sleep slept slept | schlafen schläft geschlafen | person animal | | | | home outside leisure
    work | arbeiten arbeitet gearbeitet | person | | | care company | home office shop
    sing sang sung | singen singt gesungen | person | | | sound mood company | home outside leisure
    dance | tanzen tanzt getanzt | person | | | mood company | home outside leisure
    play | spielen spielt gespielt | person animal | | | sound mood | home outside
    cook | kochen kocht gekocht | person | | | mood company | indoors
    live! | wohnen wohnt gewohnt | person | | | company | city+
    stay | bleiben bleibt geblieben* | person | | | company | home leisure city+
    rest | sich aus+ruhen ruht ausgeruht | person | | | | home outside
    hurry hurried hurried | sich beeilen beeilt beeilt | person
    sit_down sat sat | sich hin+setzen setzt hingesetzt | person | | | sound pace
    get_up got got | auf+stehen steht aufgestanden* | person | | | sound pace
    wake_up woke woken | auf+wachen wacht aufgewacht* | person animal | | | pace
    fall_asleep fell fallen | ein+schlafen schläft eingeschlafen* | person animal | | | pace | home
    watch_TV | fern+sehen sieht ferngesehen | person | | | company | indoors
    go_shopping went gone | ein+kaufen kauft eingekauft | person | | | company | shop
    arrive | an+kommen kommt angekommen* | person | | | | leisure city+
    come_back came come | zurück+kommen kommt zurückgekommen* | person animal | | | pace
    go went gone | gehen geht gegangen* | person | to | | foot company | home outside office shop leisure
    run ran run | laufen läuft gelaufen* | person animal | to | | pace | home outside
    travel | fahren fährt gefahren* | person | to | | vehicle company | city
    fly flew flown | fliegen fliegt geflogen* | person | to | | company | city
    buy bought bought | kaufen kauft gekauft | person | A | text thing device clothing vehicle | company | shop
    sell sold sold | verkaufen verkauft verkauft | person | A | food thing clothing vehicle | | shop
    eat ate eaten | essen isst gegessen | person animal | A | food | pace | home
    drink drank drunk | trinken trinkt getrunken | person | A | drink | pace company | home leisure
    read read read | lesen liest gelesen | person | A | text | sound attention | home office leisure
    write wrote written | schreiben schreibt geschrieben | person | A | text | pace | home office
    see! saw seen | sehen sieht gesehen | person animal | A | person animal vehicle | | outside leisure
    find! found found | finden findet gefunden | person | A | thing clothing animal text | | home outside
    lose! lost lost | verlieren verliert verloren | person | A | thing clothing | | outside leisure
    love! | lieben liebt geliebt | person | A | person animal
    like! | mögen mag gemocht | person | A | person animal food text clothing
    know! knew known | kennen kennt gekannt | person | A | person text
    need! | brauchen braucht gebraucht | person | A | thing device clothing vehicle
    visit | besuchen besucht besucht | person | A | person | company
    meet met met | treffen trifft getroffen | person | A | person | | outside leisure city
    look_for | suchen sucht gesucht | person animal | A | person animal thing | patience | home outside
    look_at | an+sehen sieht angesehen | person | A | person animal thing vehicle room | attention
    call | an+rufen ruft angerufen | person | A | person
    invite | ein+laden lädt eingeladen | person | A | person
    pick_up | ab+holen holt abgeholt | person | A | person | vehicle
    open | auf+machen macht aufgemacht | person | A | opening | sound pace
    close | zu+machen macht zugemacht | person | A | opening | sound pace
    tidy_up tidied tidied | auf+räumen räumt aufgeräumt | person | A | room | pace company
    wash | waschen wäscht gewaschen | person | A | clothing vehicle | pace company | home
    put_on put put | an+ziehen zieht angezogen | person | A | clothing | pace
    throw_away threw thrown | weg+werfen wirft weggeworfen | person | A | thing text clothing
    switch_on | ein+schalten schaltet eingeschaltet | person | A | device
    switch_off | aus+schalten schaltet ausgeschaltet | person | A | device
    prepare | vor+bereiten bereitet vorbereitet | person | A | event | company care | home office
    repair | reparieren repariert repariert | person | A | vehicle device opening | care patience | home
    feed fed fed | füttern füttert gefüttert | person | A | animal | patience | outside
    forget! forgot forgotten | vergessen vergisst vergessen | person | A | person thing event
    help | helfen hilft geholfen | person | D | person | | home office
    thank | danken dankt gedankt | person | D | person
    follow | folgen folgt gefolgt* | person animal | D | person animal | sound pace
    trust! | vertrauen vertraut vertraut | person | D | person
    listen_to | zu+hören hört zugehört | person | D | person | attention
    watch | zu+schauen schaut zugeschaut | person animal | D | person animal | attention | outside
    belong_to! | gehören gehört gehört | thing device clothing vehicle | D | person
    give gave given | geben gibt gegeben | person | D A | thing food text
    show showed shown | zeigen zeigt gezeigt | person | D A | thing text clothing vehicle | | home
    send sent sent | schicken schickt geschickt | person | D A | text
    lend lent lent | leihen leiht geliehen | person | D A | thing vehicle text
    bring brought brought | bringen bringt gebracht | person | D A | food drink thing
    tell told told | erzählen erzählt erzählt | person | D A | tale | sound
    wait_for | warten wartet gewartet | person animal | auf A | person | patience | outside leisure
    think_of thought thought | denken denkt gedacht | person | an A | person event
    talk_about | sprechen spricht gesprochen | person | über A | person text event | sound | office leisure
    dream_of | träumen träumt geträumt | person | von D | event vehicle person
    take_part_in took taken | teil+nehmen nimmt teilgenommen | person | an D | event
    look_forward_to | sich freuen freut gefreut | person | auf A | event
    remember! | sich erinnern erinnert erinnert | person | an A | person event
    be_interested_in! | sich interessieren interessiert interessiert | person | für A | text event
    be_afraid_of! | sich fürchten fürchtet gefürchtet | person animal | vor D | animal person
    take_care_of took taken | sich kümmern kümmert gekümmert | person | um A | person animal"""
# As VERBS, but with the conjunction of the dependent clause instead of the frame.
REPORTS = """
    say! said said | sagen sagt gesagt | person | that = dass
    know! knew known | wissen weiß gewusst | person | that = dass
    believe! | glauben glaubt geglaubt | person | that = dass
    hope! | hoffen hofft gehofft | person | that = dass
    think! thought thought | denken denkt gedacht | person | that = dass
    ask! | fragen fragt gefragt | person | whether = ob"""
ATTEMPTS = """
    try tried tried | versuchen versucht versucht | person
    decide | beschließen beschließt beschlossen | person
    promise | versprechen verspricht versprochen | person
    forget forgot forgotten | vergessen vergisst vergessen | person"""
DOUBLED = ("run", "sit", "get", "put", "travel", "forget")  # running, travelled
SIMPLE_PAST = """
    wusste wissen; dachte denken; glaubte glauben; hoffte hoffen; mochte mögen; kannte kennen; brauchte brauchen
    liebte lieben; wohnte wohnen; gehörte gehören; vertraute vertrauen
    """  # verbs whose German past is this form, not the perfect
FIRST_PERSON = {"mögen": "mag", "wissen": "weiß"}  # ich-forms that do not end in -e

# "english | to? | er-form plural [negated er-form plural] | when": German modals, with the infinitive last
MODALS = """
    can | | kann können | plan
    could | | konnte konnten | past
    must | | muss müssen darf dürfen | plan
    should | | sollte sollten | plan
    may | | darf dürfen | plan
    would like | to | möchte möchten | plan"""
WISHES = {  # verbs like modals, but with "do" in negations: he wants to, he does not want to
    "want": ("will", "wollen", "plan"),
    "wanted": ("wollte", "wollten", "past"),
    "had": ("musste", "mussten", "past"),
}

# Words with the same digit are linked. Without digits, all words of an entry are linked.
# ~ = English puts this time before the verb.
TIMES = {
    "now": "now = jetzt; right now = gerade; at1 the1 moment2 = im1 Moment2; today = heute",
    "habit": """every1 day2 = jeden1 Tag2; every1 morning2 = jeden1 Morgen2; every1 evening2 = jeden1 Abend2
        every1 week2 = jede1 Woche2; on Mondays = montags; on Sundays = sonntags; in1 summer2 = im1 Sommer2
        in1 winter2 = im1 Winter2; in1 the1 evening2 = am1 Abend2; at night = nachts
        ~often = oft; ~always = immer; ~sometimes = manchmal; ~never = nie; ~usually = meistens""",
    "past": """yesterday = gestern; last1 week2 = letzte1 Woche2; last1 year2 = letztes1 Jahr2
        two1 days2 ago3 = vor3 zwei1 Tagen2; three1 weeks2 ago3 = vor3 drei1 Wochen2
        a1 month2 ago3 = vor3 einem1 Monat2
        this1 morning2 = heute1 Morgen2; last1 night2 = gestern1 Abend2; the day before yesterday = vorgestern
        on1 Monday2 = am1 Montag2; on1 Friday2 = am1 Freitag2; on1 Saturday2 = am1 Samstag2""",
    "future": """tomorrow = morgen; tomorrow1 evening2 = morgen1 Abend2; the day after tomorrow = übermorgen
        next1 week2 = nächste1 Woche2; next1 year2 = nächstes1 Jahr2; soon = bald; later = später
        in1 two2 weeks3 = in1 zwei2 Wochen3; on1 Sunday2 = am1 Sonntag2; tonight = heute Abend""",
    "plan": """
        today = heute; tomorrow = morgen; tonight = heute Abend; next1 week2 = nächste1 Woche2
        now = jetzt""",
}
MANNERS = {
    "pace": "slowly = langsam; quickly = schnell", "sound": "quietly = leise; loudly = laut",
    "mood": "happily = fröhlich", "care": "carefully = sorgfältig",
    "attention": "attentively = aufmerksam", "patience": "patiently = geduldig",
    "foot": "on1 foot2 = zu1 Fuß2",
    "vehicle": """by1 train2 = mit1 dem2 Zug2; by1 bus2 = mit1 dem2 Bus2; by1 car2 = mit1 dem2 Auto2
        by1 bicycle2 = mit1 dem2 Fahrrad2""",
    "company": "alone = allein; with",  # "with" is followed by a person
}  # fmt: skip
# "english Deutsch gender | where | where to". The case is the dative after "where" and after zu, else the accusative.
PLACES = {
    "indoors": "kitchen Küche f | in in | into in; living_room Wohnzimmer n | in in | into in",
    "home": """
        kitchen Küche f | in in | into in; living_room Wohnzimmer n | in in | into in
        garden Garten m | in in | into in""",
    "outside": """park Park m | in in | to in; forest Wald m | in in | into in; beach Strand m | on an | to zu
        garden Garten m | in in | into in; lake See m | at an | to zu""",
    "office": """office Büro n | in in | to in; school Schule f | at an | to zu
        library Bibliothek f | in in | to in; hospital Krankenhaus n | in in | to in""",
    "shop": """
        supermarket Supermarkt m | in in | to in; market Markt m | at auf | to auf
        city Stadt f | in in | into in""",
    "leisure": """restaurant Restaurant n | in in | to in; hotel Hotel n | in in | to in
        train_station Bahnhof m | at an | to zu; museum Museum n | in in | to in
        theatre Theater n | in in | to in; church Kirche f | in in | to in""",
    "city": """Berlin; Hamburg; Vienna Wien; Munich München; Cologne Köln; Paris; Rome Rom; Prague Prag
        Italy Italien; France Frankreich; Germany Deutschland; Austria Österreich""",
}
CONTRACTIONS = {
    ("in", "dem"): "im", ("an", "dem"): "am", ("zu", "dem"): "zum", ("zu", "der"): "zur",
    ("von", "dem"): "vom", ("in", "das"): "ins",
}  # fmt: skip
WEATHER = """it is2 raining2 = es regnet2; it is2 snowing2 = es schneit2
    the3 sun4 is2 shining2 = die3 Sonne4 scheint2"""
