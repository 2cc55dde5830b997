//! Every page that people can come to, found by following the links.

use super::*;

/// Follows every link from the list of APIs; gives one page of each kind, an id standing for all.
const CRAWL: &str = r#"
const done = arguments[arguments.length - 1];
(async () => {
    const found = new Map();
    const queue = ['/console/apis'];
    while (queue.length) {
        const answer = await fetch(queue.shift());
        const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
        for (const link of page.querySelectorAll('a[href^="/console/"]')) {
            const url = new URL(link.getAttribute('href'), location.origin);
            const kind = url.pathname.replace(/[0-9a-f]{8}-[0-9a-f-]{27}|(?<=projections.)[a-z_]+/g, '{}');
            if (found.has(kind) || kind.includes('/export.')) continue;
            found.set(kind, url.pathname + url.search);
            queue.push(url.pathname + url.search);
        }
    }
    done([...found.values()]);
})()
"#;

impl Desk {
    /// One page of each kind that can be come to.
    pub(super) async fn every_page(&self) -> Vec<String> {
        let found = self.browser.client.execute_async(CRAWL, Vec::new()).await;
        serde_json::from_value(found.unwrap()).unwrap()
    }

    /// Takes up a job with the dead letters, so that there is one to be seen.
    pub(super) async fn redeliver_dead_letters(&self) {
        let path = format!("/v1/apis/{}/dead-letters/_redeliver", self.api);
        let made = self.served.post(path, json!({"filter": {}})).await;
        assert_eq!(made.status, 202, "{made:?}");
        self.served.test.settle().await;
    }
}

#[tokio::test]
async fn every_page_is_sound_on_a_desk_and_on_a_phone() {
    for width in [1_280, 390] {
        let desk = Desk::open(Setup {
            width,
            ..Setup::default()
        })
        .await;
        let browser = &desk.browser;
        desk.publish_to_good_and_bad().await;
        desk.redeliver_dead_letters().await;
        let pages = desk.every_page().await;
        assert!(pages.len() >= 25, "{pages:#?}");
        for page in pages {
            desk.go(&page).await;
            browser.find("main h1").await;
            browser.check().await;
            let wider = "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
            assert_eq!(browser.run(wider, Vec::new()).await, 0, "{page} at {width}");
        }
        desk.close().await;
    }
}
