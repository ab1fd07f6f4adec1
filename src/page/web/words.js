// The page's own words in English and in Korean. What the dashboards say is in their files.

const WORDS = {
    marketTime: ['Market time', '마켓 시간'], seoul: ['Seoul', '서울'], live: ['Live', '실시간'], paused: ['Paused', '일시 정지'], away: ['No market is running', '실행 중인 마켓이 없음'], history: ['Living through the history', '지난 기간을 재현하는 중'],
    behind: ['The results are {span} behind', '결과가 {span} 늦음'], none: ['There are no results yet', '아직 결과가 없음'], waiting: ['{n} records wait', '레코드 {n}건 대기 중'],
    pause: ['Pause', '일시 정지'], resume: ['Resume', '계속'], speed: ['Speed', '속도'], fastest: ['as fast as it goes', '최대 속도'], market: ['The market', '마켓'],
    orders: ['orders', '주문'], customers: ['customers', '고객'], products: ['products', '상품'], running: ['Running scenarios', '진행 중인 시나리오'], until: ['until {at}', '{at}까지'],
    stop: ['Stop {name}', '{name} 중지'], blackFriday: ['Black Friday now', '지금 블랙 프라이데이'], startScenario: ['Start a scenario', '시나리오 시작'], scenario: ['Scenario', '시나리오'],
    duration: ['For', '기간'], strength: ['Strength', '강도'], start: ['Start', '시작'], halfHour: ['30 minutes', '30분'], twoHours: ['2 hours', '2시간'], oneDay: ['1 day', '1일'], untilStopped: ['until stopped', '중지할 때까지'],
    started: ['{name} is running.', '{name} 시나리오를 시작했습니다.'], stopped: ['{name} has been stopped.', '{name} 시나리오를 중지했습니다.'], strengthHint: ['{n} is its usual strength', '기본 강도는 {n}'],
    dashboards: ['Dashboards', '대시보드'], range: ['Time range', '기간 선택'], refresh: ['Refresh', '새로 고침'], eachCommit: ['at each commit', '커밋마다'], seconds: ['every {n} s', '{n}초마다'], off: ['off', '끔'],
    h1: ['Last hour', '최근 1시간'], h6: ['Last 6 hours', '최근 6시간'], h24: ['Last 24 hours', '최근 24시간'], d7: ['Last 7 days', '최근 7일'], d30: ['Last 30 days', '최근 30일'], d90: ['Last 90 days', '최근 90일'], y1: ['Last year', '최근 1년'],
    custom: ['From … to …', '직접 지정…'], from: ['From', '시작'], to: ['To', '끝'], apply: ['Apply', '적용'], order: ['The end must be after the beginning.', '끝은 시작보다 뒤여야 합니다.'],
    all: ['All', '전체'], chosen: ['{n} chosen', '{n}개 선택'], theme: ['Dark or light', '어둡게 또는 밝게'], asOf: ['As of {at}, commit point {n}', '{at} 기준, 커밋 지점 {n}'],
    nothingYet: ['Nothing is committed yet.', '아직 커밋된 내용이 없습니다.'], lost: ['The connection is lost. Trying again …', '연결이 끊어졌습니다. 다시 연결하는 중 …'], back: ['Connected again.', '다시 연결되었습니다.'],
    failed: ['The server said: {error}', '서버 응답: {error}'], unreachable: ['The server cannot be reached.', '서버에 연결할 수 없습니다.'], loading: ['Loading …', '불러오는 중 …'], unknown: ['There is no dashboard of this name.', '그런 이름의 대시보드가 없습니다.'],
    nothing: ['Nothing to show', '표시할 내용이 없습니다'], noAnswer: ['The server sent nothing for this panel.', '서버가 이 패널의 자료를 보내지 않았습니다.'], about: ['About “{title}”', '“{title}” 설명'], asTable: ['Show as a table', '표로 보기'], hide: ['Show or hide', '표시 또는 숨김'],
    warning: ['warning', '경고'], alarm: ['alarm', '경보'], most: ['Most', '최대'], mean: ['mean', '평균'], max: ['max', '최대'], min: ['min', '최소'], sum: ['total', '합계'], lastNotNull: ['last', '최근'], last: ['last', '최근'],
    holds: ['What the results wait for', '결과가 기다리는 것'], waitsFor: ['({span})', '({span}째)'],
    'wait-transaction': ['A producer holds a transaction open in {place} from offset {offset} on: {n} records from there on are not read until it ends.', '{place}의 오프셋 {offset}부터 끝나지 않은 프로듀서 트랜잭션이 있습니다. 끝날 때까지 그 뒤의 레코드 {n}건을 읽지 못합니다.'],
    'wait-partition': ['The log holds {n} records of {place} from offset {offset} on, and does not give them.', '로그가 {place}의 오프셋 {offset}부터 레코드 {n}건을 보관하고 있지만 내주지 않습니다.'],
    'wait-brokers': ['The brokers do not answer{said}', '브로커가 응답하지 않습니다{said}'], 'wait-lock': ['PostgreSQL: waiting for a lock that {told}', 'PostgreSQL 잠금을 기다리고 있습니다: {told}'],
    reached: ['it is read up to {at}, {span} behind the furthest', '{at}까지 읽었고 가장 앞선 파티션보다 {span} 늦습니다'], reachedNone: ['no two customers and no heartbeat have spoken there', '고객 두 명이나 하트비트가 아직 없습니다'],
    heldBack: ['The market time waits for {place}: {said}.', '마켓 시간이 {place}을(를) 기다립니다: {said}.'], leftOut: ['The market time goes on without {place}: {said}.', '마켓 시간이 {place} 없이 진행됩니다: {said}.'],
    alerts: ['Alerts of standing views', '상시 뷰의 경보'], since: ['(since {at})', '({at}부터)'],
    ask: ['Ask', '질문하기'], askAbout: ['A SELECT over the tables, run once as of the newest commit point. Keep it, and the answer stays exact at every commit.', '최신 커밋 지점을 기준으로 테이블에 SELECT를 한 번 실행합니다. 유지하면 커밋마다 정확한 답이 유지됩니다.'],
    question: ['A SELECT', 'SELECT 문'], run: ['Run', '실행'], runHint: ['Ctrl+Enter', 'Ctrl+Enter'], examples: ['Examples …', '예시 …'], keep: ['Keep the answer', '답 유지하기'], keepIt: ['Keep', '유지'], name: ['Name', '이름'],
    keepAbout: ['The SELECT becomes a standing view: a table of its name, exact at every commit from then on.', '이 SELECT가 상시 뷰가 됩니다. 같은 이름의 테이블이 그때부터 커밋마다 정확하게 유지됩니다.'], eachAlert: ['Each row is an alert', '행마다 경보'],
    oneRow: ['1 row', '1행'], manyRows: ['{n} rows', '{n}행'], firstRows: ['the first {n} rows', '처음 {n}행'], answerAs: ['Shown as', '보기 방식'], asChart: ['Chart', '차트'], asRows: ['Table', '표'],
    views: ['Standing views', '상시 뷰'], viewsNone: ['There is none yet. Ask something, and keep the answer.', '아직 없습니다. 질문하고 그 답을 유지해 보세요.'], view: ['View', '뷰'], state: ['State', '상태'], rows: ['Rows', '행'], held: ['Records held', '보관 레코드'], age: ['Age', '경과'], alert: ['alert', '경보'],
    'state-adding': ['is being added', '추가하는 중'], 'state-live': ['live', '실시간'], 'state-failed': ['does not hold', '유효하지 않음'], 'state-ended': ['ended', '종료됨'], 'state-dropped': ['goes', '삭제하는 중'], showText: ['SQL', 'SQL'], drop: ['Drop', '삭제'],
    dropSure: ['Drop the view {name} and its rows?', '뷰 {name}과(와) 그 행을 삭제할까요?'], dropped: ['{name} goes with the next commit.', '{name}이(가) 다음 커밋에서 삭제됩니다.'], kept: ['{name} is kept from now on.', '이제부터 {name}을(를) 유지합니다.'], notKept: ['It cannot be kept: {error}', '유지할 수 없습니다: {error}'],
    exampleHours: ['Orders and revenue by hour of the day', '시간대별 주문과 매출'], exampleRegions: ['Customers and revenue by region', '지역별 고객과 매출'], exampleCategories: ['Revenue by category, hour by hour', '카테고리별 매출 추이'], exampleSleeping: ['Good customers who have not come back', '돌아오지 않은 우수 고객'],
    skip: ['Skip to the panels', '패널로 건너뛰기'], toKorean: ['한국어', 'English'],
};

// Names and descriptions of the scenarios that ship; others are shown as the server has them.
const SCENARIOS = {
    'seollal': ['Seollal', '설날', '설 선물, 조용한 연휴, 그 뒤 세뱃돈 소비'], 'chuseok': ['Chuseok', '추석', '추석 선물, 조용한 연휴, 그 뒤 용돈 소비'],
    'black-friday': ['Black Friday', '블랙 프라이데이', '주문이 세 배가 되고 일주일간 여운이 남으며, 그 뒤에는 살 것을 이미 산 상태'], 'grand-sibiljeol': ['Grand Sibiljeol', '그랜드 십일절', '11월 11일까지 열하루의 세일과 그 마지막 한 시간'],
    'big-smile-day-spring': ['Big Smile Day', '빅스마일데이', '열흘간의 세일, 첫날이 가장 강함'], 'korea-sale-festa': ['Korea Sale Festa', '코리아 세일 페스타', '쇼핑몰들의 공동 세일'], 'summer-vacation': ['Summer vacation', '여름 휴가', '휴가를 떠났고 준비물은 이미 구매'],
    'payday-25': ['Payday, 25th', '25일 월급날', '25일에 월급이 나옴'], 'payday-10': ['Payday, 10th', '10일 월급날', '10일에 월급이 나옴'], 'month-start': ['Start of the month', '월초', '매월 첫 닷새의 주문 증가'],
    'sambok': ['Sambok', '삼복', '삼계탕을 먹는 가장 더운 세 날'], 'tropical-nights': ['Tropical nights', '열대야', '더워서 잠들지 못하고 늦게까지 쇼핑'], 'rainy-season': ['Rainy season', '장마', '우산과 제습기'], 'cold-snap': ['Cold snap', '한파', '첫 추위: 난방용품과 패딩'],
    'new-semester': ['New semester', '새 학기', '새 학년의 가방, 필기구, 노트북'], 'valentines-day': ["Valentine's Day", '밸런타인데이', '초콜릿'], 'white-day': ['White Day', '화이트데이', '답례 사탕'], 'childrens-day': ["Children's Day", '어린이날', '어린이 선물'],
    'parents-day': ["Parents' Day", '어버이날', '부모님 선물'], 'spring-moving': ['Spring moving', '봄 이사철', '봄의 결혼과 이사'], 'autumn-moving': ['Autumn moving', '가을 이사철', '가을의 결혼과 이사'], 'pepero-day': ['Pepero Day', '빼빼로데이', '11월 11일의 초콜릿 과자'],
    'csat': ['University exam', '수능', '시험 전에는 선물, 시험 뒤에는 옷과 전자기기'], 'kimjang': ['Kimjang', '김장철', '겨울 김치를 담그는 때'], 'christmas': ['Christmas', '크리스마스', '배송이 가능한 날까지의 선물'], 'new-year-plans': ['New Year plans', '새해 계획', '건강, 운동, 다이어리'],
    'live-commerce': ['Live commerce', '라이브 커머스', '목요일 저녁의 라이브 방송'],
};

/** The language in force. */
export const language = { now: 'en' };

/** One of the page's words, with its {places} filled in. */
export function word(key, values = {}) {
    const pair = WORDS[key] ?? [key, key];
    return pair[language.now === 'ko' ? 1 : 0].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

export const scenarioName = name => SCENARIOS[name]?.[language.now === 'ko' ? 1 : 0] ?? name.replaceAll('-', ' ');
export const scenarioAbout = ({ name, about }) => (language.now === 'ko' && SCENARIOS[name]?.[2]) || about;

/** Puts the words into the parts of the page that are marked with `data-word` or `data-label`. */
export function translate(root) {
    root.querySelectorAll('[data-word]').forEach(element => { element.textContent = word(element.dataset.word); });
    root.querySelectorAll('[data-label]').forEach(element => {
        element.setAttribute('aria-label', word(element.dataset.label));
        if (element.tagName === 'BUTTON') element.title = word(element.dataset.label);
    });
}
