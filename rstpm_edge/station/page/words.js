// All words of the page, in three languages. {name} is replaced.
const WORDS = {
  en: {
    language: "Language", dark: "Dark mode", keys: "Keyboard shortcuts", live: "Live verdict", line: "Line", allLines: "All", requests: "Requests",
    normal: "GOOD", anomalous: "REJECT", invalid: "INVALID", failed: "ERROR", waiting: "Waiting for the first part",
    goodParts: "Good", rejects: "Rejects", invalids: "Invalid", errors: "Errors", all: "All", undecided: "Undecided",
    score: "Score", threshold: "Threshold", pvalue: "p-value", part: "Part", at: "At", image: "Image", backToLive: "Back to live", noImage: "No image yet",
    imageOf: "Photo of {name}", heat: "Heat map", decide: "Decide", acknowledge: "Acknowledge", wasGood: "Was good", missed: "Missed a defect", withdraw: "Take back", comment: "Comment",
    region: "Region {n}", regionAt: "Peak {peak}, threshold {threshold}; {area} pixels around {x}, {y}", noWhy: "Start the station with --explain to see which pair and scale fired.",
    alone: "Alone would have rejected: {pairs}.", aloneNone: "No pair alone would have rejected.", stpm: "imitating pair", recon: "reconstructing pair", head: "segmentation head", scale: "{what}, scale {stride}",
    shift: "Shift", since: "since {time}", rejectRate: "{rate} of judged parts rejected", newShift: "New shift", newShiftDone: "A new shift has begun.", scores: "Scores", band: "nine of ten good parts", lastN: "last {n}",
    chartLabel: "Scores of the last {n} parts; {above} above the threshold {threshold}.",
    model: "Model", product: "Product", promise: "Of good parts, at most {alpha} are rejected on average; for this calibration at most {rate}, with 95 % confidence.", promiseDiffer: "Of good parts, at most {alpha} are rejected on average. No rate is known with 95 % confidence, since sessions differ.", noPromise: "The threshold was set by hand: nothing is promised.",
    heldOut: "Calibrated on", photos: "{n} photos", typical: "Typical score", file: "File", drift: "Drift", driftStable: "The scene is stable.", driftScene: "The scene has changed: light, lens or product?", driftDefects: "More defects than before.", driftOff: "Not watched: start the station with --drift.",
    lastParts: "Last 100 parts", filter: "Show", noParts: "No parts of this kind.", pause: "Pause", resume: "Resume", running: "Running", paused: "Paused", nosource: "No source", starting: "Starting", ended: "Ended", stopped: "Stopped", offline: "No connection to the station", dropped: "{n} frames dropped", noLine: "Requests only",
    cancel: "Cancel", save: "Save", close: "Close", person: "Your name (optional)", saved: "Saved.", savedPhoto: "Saved, and the photo is kept for the next training.", noHistory: "Start the station with --history FOLDER to keep decisions.",
    said_acknowledged: "Acknowledged", said_good: "Was good", said_defect: "Missed a defect", said_comment: "Comment", said_withdrawn: "Taken back",
    noteGood: "This good part was rejected. The photo is kept as one of the next training set.", noteDefect: "A defect was passed as good. The photo is kept, for evaluation.", noteComment: "A comment on this part.",
    recalibrate: "Recalibrate", recalibrateText: "Good parts that this model has judged move its threshold. Every reject must be decided first; nothing is trained.", calibrateOn: "Calibrate on", addParts: "these parts and the photos of before", onlyParts: "these parts alone, after a change", take: "Judge with it from now on", writeModel: "Write the model",
    chooseLine: "Choose a line first, at the top.", mustDecide: "Rejects that nobody has decided: {n}. Say of each whether it is a defect (acknowledge) or a good part: without them, the good parts are no fair sample.",
    showToDecide: "Show them", s_origins: "Good parts by line", s_passed: "Passed as good", s_wrong: "Rejects that were good", s_defects: "Defects", s_undecided: "Rejects not decided", s_unjudged: "Not counted: INVALID or failed", s_judged_otherwise: "Not counted: judged with a mask, another ROI or a threshold set by hand", s_without_pictures: "Not counted: picture not kept any more", thresholdMoves: "Threshold", averageKept: "Rejected on average at most", ratesMove: "With 95 % confidence at most", ownRate: "The model's own rate, in the file", rejectsMove: "Of these parts rejected", calibratedOn: "Calibrated on", recalibrated: "Written: {file}", taken: "The new threshold is {threshold}.",
    login: "Log in", token: "Token of this station", badToken: "This token is not known.", keysOn: "Use these keys",
    k_pause: "Pause or resume", k_acknowledge: "Acknowledge", k_good: "Was good", k_defect: "Missed a defect", k_older: "Older part", k_newer: "Newer part", k_live: "Back to live", k_heat: "Heat map on or off", k_less: "Weaker heat map", k_more: "Stronger heat map", k_region: "Next region", k_filter: "Next filter", k_dark: "Dark mode", k_help: "This list",
  },
  de: {
    language: "Sprache", dark: "Dunkle Ansicht", keys: "Tastenkürzel", live: "Aktuelles Urteil", line: "Linie", allLines: "Alle", requests: "Anfragen",
    normal: "GUT", anomalous: "AUSSCHUSS", invalid: "UNGÜLTIG", failed: "FEHLER", waiting: "Wartet auf das erste Teil",
    goodParts: "Gut", rejects: "Ausschuss", invalids: "Ungültig", errors: "Fehler", all: "Alle", undecided: "Offen",
    score: "Wert", threshold: "Schwelle", pvalue: "p-Wert", part: "Teil", at: "Zeit", image: "Bild", backToLive: "Zurück zu Live", noImage: "Noch kein Bild",
    imageOf: "Foto von {name}", heat: "Anomaliekarte", decide: "Entscheiden", acknowledge: "Bestätigen", wasGood: "War gut", missed: "Fehler übersehen", withdraw: "Zurücknehmen", comment: "Kommentar",
    region: "Bereich {n}", regionAt: "Spitze {peak}, Schwelle {threshold}; {area} Pixel um {x}, {y}", noWhy: "Mit --explain gestartet, zeigt die Station, welches Paar und welche Skala anschlug.",
    alone: "Allein hätte ausgesondert: {pairs}.", aloneNone: "Kein Paar hätte allein ausgesondert.", stpm: "nachahmendes Paar", recon: "rekonstruierendes Paar", head: "Segmentierung", scale: "{what}, Skala {stride}",
    shift: "Schicht", since: "seit {time}", rejectRate: "{rate} der beurteilten Teile ausgesondert", newShift: "Neue Schicht", newShiftDone: "Eine neue Schicht hat begonnen.", scores: "Werte", band: "neun von zehn guten Teilen", lastN: "letzte {n}",
    chartLabel: "Werte der letzten {n} Teile; {above} über der Schwelle {threshold}.",
    model: "Modell", product: "Produkt", promise: "Von guten Teilen werden im Mittel höchstens {alpha} ausgesondert; bei dieser Kalibrierung höchstens {rate}, mit 95 % Sicherheit.", promiseDiffer: "Von guten Teilen werden im Mittel höchstens {alpha} ausgesondert. Mit 95 % Sicherheit ist keine Rate bekannt, da sich die Serien unterscheiden.", noPromise: "Die Schwelle wurde von Hand gesetzt: Es wird nichts zugesagt.",
    heldOut: "Kalibriert an", photos: "{n} Fotos", typical: "Typischer Wert", file: "Datei", drift: "Veränderung", driftStable: "Die Szene ist stabil.", driftScene: "Die Szene hat sich verändert: Licht, Objektiv oder Produkt?", driftDefects: "Mehr Fehler als vorher.", driftOff: "Wird nicht überwacht: Station mit --drift starten.",
    lastParts: "Letzte 100 Teile", filter: "Anzeigen", noParts: "Keine Teile dieser Art.", pause: "Pause", resume: "Weiter", running: "Läuft", paused: "Pausiert", nosource: "Keine Quelle", starting: "Startet", ended: "Beendet", stopped: "Gestoppt", offline: "Keine Verbindung zur Station", dropped: "{n} Bilder verworfen", noLine: "Nur Anfragen",
    cancel: "Abbrechen", save: "Speichern", close: "Schließen", person: "Ihr Name (freiwillig)", saved: "Gespeichert.", savedPhoto: "Gespeichert; das Foto bleibt für das nächste Training erhalten.", noHistory: "Station mit --history ORDNER starten, um Entscheidungen zu behalten.",
    said_acknowledged: "Bestätigt", said_good: "War gut", said_defect: "Fehler übersehen", said_comment: "Kommentar", said_withdrawn: "Zurückgenommen",
    noteGood: "Dieses gute Teil wurde ausgesondert. Das Foto bleibt für das nächste Training erhalten.", noteDefect: "Ein Fehler wurde als gut durchgelassen. Das Foto bleibt für die Auswertung erhalten.", noteComment: "Ein Kommentar zu diesem Teil.",
    recalibrate: "Neu kalibrieren", recalibrateText: "Gute Teile, die dieses Modell beurteilt hat, verschieben seine Schwelle. Vorher muss jeder Ausschuss entschieden sein; trainiert wird nichts.", calibrateOn: "Kalibrieren an", addParts: "diesen Teilen und den bisherigen Fotos", onlyParts: "nur diesen Teilen, nach einer Änderung", take: "Ab jetzt damit urteilen", writeModel: "Modell schreiben",
    chooseLine: "Wählen Sie oben zuerst eine Linie.", mustDecide: "Noch offener Ausschuss: {n}. Bitte für jedes Teil entscheiden, ob es fehlerhaft ist (bestätigen) oder gut war: Ohne sie sind die guten Teile keine faire Stichprobe.",
    showToDecide: "Anzeigen", s_origins: "Gute Teile nach Linie", s_passed: "Als gut durchgelassen", s_wrong: "Ausschuss, der gut war", s_defects: "Fehler", s_undecided: "Ausschuss, noch offen", s_unjudged: "Nicht gezählt: UNGÜLTIG oder FEHLER", s_judged_otherwise: "Nicht gezählt: mit Maske, anderem ROI oder von Hand gesetzter Schwelle beurteilt", s_without_pictures: "Nicht gezählt: Bild nicht mehr vorhanden", thresholdMoves: "Schwelle", averageKept: "Im Mittel höchstens ausgesondert", ratesMove: "Mit 95 % Sicherheit höchstens", ownRate: "Eigene Rate des Modells, in der Datei", rejectsMove: "Von diesen Teilen ausgesondert", calibratedOn: "Kalibriert an", recalibrated: "Geschrieben: {file}", taken: "Die neue Schwelle ist {threshold}.",
    login: "Anmelden", token: "Token dieser Station", badToken: "Dieses Token ist nicht bekannt.", keysOn: "Diese Tasten verwenden",
    k_pause: "Pause oder weiter", k_acknowledge: "Bestätigen", k_good: "War gut", k_defect: "Fehler übersehen", k_older: "Älteres Teil", k_newer: "Neueres Teil", k_live: "Zurück zu Live", k_heat: "Anomaliekarte an oder aus", k_less: "Schwächere Karte", k_more: "Stärkere Karte", k_region: "Nächster Bereich", k_filter: "Nächster Filter", k_dark: "Dunkle Ansicht", k_help: "Diese Liste",
  },
  ja: {
    language: "言語", dark: "ダークモード", keys: "キーボード操作", live: "現在の判定", line: "ライン", allLines: "すべて", requests: "リクエスト",
    normal: "良品", anomalous: "不良", invalid: "判定不可", failed: "エラー", waiting: "最初の部品を待っています",
    goodParts: "良品", rejects: "不良", invalids: "判定不可", errors: "エラー", all: "すべて", undecided: "未確認",
    score: "スコア", threshold: "しきい値", pvalue: "p値", part: "部品", at: "時刻", image: "画像", backToLive: "ライブに戻る", noImage: "画像はまだありません",
    imageOf: "{name} の写真", heat: "異常マップ", decide: "確認", acknowledge: "不良を確認", wasGood: "良品だった", missed: "欠陥の見逃し", withdraw: "取り消す", comment: "コメント",
    region: "領域 {n}", regionAt: "最大 {peak}、しきい値 {threshold}、{x}, {y} 付近 {area} 画素", noWhy: "--explain を付けて起動すると、どのペアとスケールが反応したかを表示します。",
    alone: "単独でも不良と判定: {pairs}。", aloneNone: "単独で不良と判定するペアはありません。", stpm: "模倣ペア", recon: "再構成ペア", head: "セグメンテーション", scale: "{what}、スケール {stride}",
    shift: "シフト", since: "{time} から", rejectRate: "判定した部品の {rate} が不良", newShift: "新しいシフト", newShiftDone: "新しいシフトを開始しました。", scores: "スコア", band: "良品の九割の範囲", lastN: "直近 {n} 個",
    chartLabel: "直近 {n} 個のスコア。しきい値 {threshold} を超えたもの {above} 個。",
    model: "モデル", product: "製品", promise: "良品のうち不良と判定されるのは平均で {alpha} 以下、この校正では信頼度 95 % で {rate} 以下です。", promiseDiffer: "良品のうち不良と判定されるのは平均で {alpha} 以下です。ロット間に差があるため、信頼度 95 % の率は示せません。", noPromise: "しきい値は手動設定のため、保証はありません。",
    heldOut: "校正", photos: "写真 {n} 枚", typical: "標準的なスコア", file: "ファイル", drift: "変化の監視", driftStable: "撮影条件は安定しています。", driftScene: "撮影条件が変わりました。照明、レンズ、製品を確認してください。", driftDefects: "以前より欠陥が増えています。", driftOff: "監視していません。--drift を付けて起動してください。",
    lastParts: "直近 100 個の部品", filter: "表示", noParts: "該当する部品はありません。", pause: "一時停止", resume: "再開", running: "稼働中", paused: "一時停止中", nosource: "入力なし", starting: "起動中", ended: "終了", stopped: "停止", offline: "ステーションに接続できません", dropped: "{n} フレーム欠落", noLine: "リクエストのみ",
    cancel: "キャンセル", save: "保存", close: "閉じる", person: "お名前（任意）", saved: "保存しました。", savedPhoto: "保存しました。写真は次回の学習用に残します。", noHistory: "記録するには --history フォルダー を付けて起動してください。",
    said_acknowledged: "確認済み", said_good: "良品だった", said_defect: "欠陥の見逃し", said_comment: "コメント", said_withdrawn: "取り消し",
    noteGood: "良品が不良と判定されました。写真は次回の学習用に残します。", noteDefect: "欠陥が良品と判定されました。写真は評価用に残します。", noteComment: "この部品へのコメント。",
    recalibrate: "再校正", recalibrateText: "このモデルが判定した良品でしきい値を調整します。先にすべての不良を確認してください。学習は行いません。", calibrateOn: "校正に使うもの", addParts: "これらの部品と以前の写真", onlyParts: "これらの部品のみ（条件変更後）", take: "今からこれで判定する", writeModel: "モデルを書き出す",
    chooseLine: "先に上でラインを選んでください。", mustDecide: "未確認の不良が {n} 個あります。それぞれ欠陥か良品かを確認してください。確認しないと、良品の標本が偏ります。",
    showToDecide: "表示する", s_origins: "ライン別の良品", s_passed: "良品と判定", s_wrong: "不良判定だが良品", s_defects: "欠陥", s_undecided: "未確認の不良", s_unjudged: "対象外: 判定不可またはエラー", s_judged_otherwise: "対象外: マスク、別の ROI、手動のしきい値による判定", s_without_pictures: "対象外: 画像の保存期限切れ", thresholdMoves: "しきい値", averageKept: "不良と判定される平均の上限", ratesMove: "信頼度 95 % で最大", ownRate: "モデル自身の率（ファイル内）", rejectsMove: "これらのうち不良判定", calibratedOn: "校正", recalibrated: "書き出しました: {file}", taken: "新しいしきい値は {threshold} です。",
    login: "ログイン", token: "このステーションのトークン", badToken: "このトークンは登録されていません。", keysOn: "これらのキーを使う",
    k_pause: "一時停止・再開", k_acknowledge: "不良を確認", k_good: "良品だった", k_defect: "欠陥の見逃し", k_older: "前の部品", k_newer: "次の部品", k_live: "ライブに戻る", k_heat: "異常マップの表示切替", k_less: "異常マップを薄く", k_more: "異常マップを濃く", k_region: "次の領域", k_filter: "次の表示条件", k_dark: "ダークモード", k_help: "この一覧",
  },
};

export const LANGUAGES = Object.keys(WORDS);
let language = "en";

export function setLanguage(name) {
  language = LANGUAGES.includes(name) ? name : "en";
  document.documentElement.lang = language;
  for (const node of document.querySelectorAll("[data-word]")) node.textContent = word(node.dataset.word);
  for (const node of document.querySelectorAll("[data-label]")) node.setAttribute("aria-label", word(node.dataset.label));
}

export function firstLanguage() {
  const asked = (navigator.languages || [navigator.language]).map((name) => name.slice(0, 2));
  return asked.find((name) => LANGUAGES.includes(name)) || "en";
}

export function word(name, values = {}) {
  const text = WORDS[language][name] ?? WORDS.en[name] ?? name;
  return text.replace(/\{(\w+)\}/g, (whole, key) => values[key] ?? whole);
}

export function number(value, digits = 4) {
  if (value === null || value === undefined) return "–";
  return new Intl.NumberFormat(language, { maximumSignificantDigits: digits, useGrouping: false }).format(value);
}

export function even(value) {
  if (value === null || value === undefined) return "–";
  return new Intl.NumberFormat(language, { minimumSignificantDigits: 3, maximumSignificantDigits: 3, useGrouping: false }).format(value);
}

export const count = (value) => new Intl.NumberFormat(language).format(value);

export const percent = (share, digits = 3) =>
  new Intl.NumberFormat(language, { style: "percent", maximumSignificantDigits: digits }).format(share);

// Not by hour12: false, which in older browsers begins the day at 24.
export const clock = (seconds) =>
  new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" }).format(seconds * 1000);
